/* A made-up libnvidia-ml.so.1, so that the tests run the real pynvml. Built by tests/devices/fake_nvml.py.
 *
 * Every variable is read at each call, so that a driver can break half-way:
 *   FAKE_GPUS=n            how many GPUs (2)
 *   FAKE_INIT=code         what nvmlInit returns (0); 9 = driver not loaded
 *   FAKE_LOST=i            GPU i answers everything but its handle with 15, "GPU is lost"
 *   FAKE_NO_HANDLE=i       GPU i gives no handle either
 *   FAKE_SILENT=1          utilization, temperature, power and processes are not supported
 *   FAKE_MIG=i             GPU i is split: instances in its slots 0 and 2 of 4
 *   FAKE_PROCESSES=d:pid:MiB,...   d = GPU index, or 100 + slot for a MIG instance
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, UNINITIALIZED = 1, BAD_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15 };
enum { MAX_GPUS = 8, SLOTS = 4, FIRST_SLOT = 100 };
#define MIB 1048576ull

typedef struct device { int number; } *Device;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;

static struct device gpus[MAX_GPUS], slots[SLOTS];
static int opened;

static int setting(const char *name, int otherwise)
{
    const char *value = getenv(name);
    return value && *value ? atoi(value) : otherwise;
}

static int answer(Device device)
{
    if (!opened) return UNINITIALIZED;
    if (!device) return BAD_ARGUMENT;
    return device->number == setting("FAKE_LOST", -1) ? LOST : OK;
}

static int optional_answer(Device device)
{
    int code = answer(device);
    return code ? code : setting("FAKE_SILENT", 0) ? NOT_SUPPORTED : OK;
}

#define MUST(code) do { int code_ = (code); if (code_) return code_; } while (0)

static unsigned long long used_mib(Device device)
{
    return device->number >= FIRST_SLOT ? 512 : 2048;
}

int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    MUST(setting("FAKE_INIT", 0));
    for (int i = 0; i < MAX_GPUS; i++) gpus[i].number = i;
    for (int i = 0; i < SLOTS; i++) slots[i].number = FIRST_SLOT + i;
    opened++;
    return OK;
}

int nvmlShutdown(void)
{
    if (!opened) return UNINITIALIZED;
    opened--;
    return OK;
}

const char *nvmlErrorString(int code)
{
    switch (code) {
    case NOT_SUPPORTED: return "Not Supported";
    case 9: return "Driver Not Loaded";
    case LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *text, unsigned size)
{
    if (!opened) return UNINITIALIZED;
    return snprintf(text, size, "580.65.06") < (int)size ? OK : TOO_SMALL;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    if (!opened) return UNINITIALIZED;
    *count = setting("FAKE_GPUS", 2);
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device)
{
    if (!opened) return UNINITIALIZED;
    if ((int)index >= setting("FAKE_GPUS", 2)) return BAD_ARGUMENT;
    if ((int)index == setting("FAKE_NO_HANDLE", -1)) return LOST;
    *device = &gpus[index];
    return OK;
}

int nvmlDeviceGetName(Device device, char *text, unsigned size)
{
    MUST(answer(device));
    const char *name = device->number >= FIRST_SLOT ? "NVIDIA Fake MIG 1g.12gb" : "NVIDIA Fake 96GB";
    return snprintf(text, size, "%s", name) < (int)size ? OK : TOO_SMALL;
}

int nvmlDeviceGetMemoryInfo(Device device, Memory *memory)
{
    MUST(answer(device));
    memory->total = (device->number >= FIRST_SLOT ? 12288 : 98304) * MIB;
    memory->used = used_mib(device) * MIB;
    memory->free = memory->total - memory->used;
    return OK;
}

int nvmlDeviceGetUtilizationRates(Device device, Utilization *rates)
{
    MUST(optional_answer(device));
    if (device->number >= FIRST_SLOT) return NOT_SUPPORTED;
    rates->gpu = 37;
    rates->memory = 12;
    return OK;
}

int nvmlDeviceGetTemperature(Device device, int sensor, unsigned *celsius)
{
    (void)sensor;
    MUST(optional_answer(device));
    *celsius = 55 + device->number;
    return OK;
}

int nvmlDeviceGetPowerUsage(Device device, unsigned *milliwatts)
{
    MUST(optional_answer(device));
    *milliwatts = 123456;
    return OK;
}

int nvmlDeviceGetEnforcedPowerLimit(Device device, unsigned *milliwatts)
{
    MUST(optional_answer(device));
    *milliwatts = 300000;
    return OK;
}

int nvmlDeviceGetCudaComputeCapability(Device device, int *major, int *minor)
{
    MUST(answer(device));
    *major = 9;
    *minor = 0;
    return OK;
}

int nvmlDeviceGetMigMode(Device device, unsigned *current, unsigned *pending)
{
    MUST(answer(device));
    *current = *pending = device->number == setting("FAKE_MIG", -1);
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned *count)
{
    MUST(answer(device));
    *count = SLOTS;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device *part)
{
    MUST(answer(device));
    if (index >= SLOTS) return BAD_ARGUMENT;
    if (index % 2) return NOT_FOUND;
    *part = &slots[index];
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, Process *processes)
{
    MUST(optional_answer(device));
    const char *rest = getenv("FAKE_PROCESSES");
    unsigned room = *count, found = 0;
    int number, skip;
    unsigned pid, mib;
    while (rest && sscanf(rest, "%d:%u:%u%n", &number, &pid, &mib, &skip) == 3) {
        if (number == device->number) {
            if (found < room) processes[found] = (Process){pid, mib * MIB, 0, 0};
            found++;
        }
        rest += skip + (rest[skip] == ',');
    }
    *count = found;
    return found > room ? TOO_SMALL : OK;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(Device device, unsigned *count, Process *processes)
{
    return nvmlDeviceGetComputeRunningProcesses_v3(device, count, processes);
}
