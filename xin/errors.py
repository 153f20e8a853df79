"""The error tree: every failure a user can meet has a code, an HTTP status, a message and a hint.

XinError
├── BadRequest 400             a field is wrong; `param` names it
│   ├── UnsupportedParameter   the engine or model cannot honour the field
│   └── ContextLengthExceeded  the prompt does not fit the window
├── Unauthorized 401, Forbidden 403
├── NotFound 404
│   └── ModelNotFound
├── Conflict 409               the uid is taken by something else
├── TooLarge 413, WrongMediaType 415
├── LaunchCancelled 499
├── LoadFailed 500             the engine could not load the weights
├── WorkerDied 500             the process that held the model ended
├── InternalError 500
├── EngineMissing 501          the engine is not installed
├── Busy 503                   loading, draining, or the queue is full
├── OutOfMemory 507            host or device memory did not suffice
├── DiskFull 507               no room for what is to be written
└── client side: Unreachable (no node answered), ForeignServer (something else answered), UsageError,
                 SessionFileError (the file of sessions cannot be read or written)
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_UNREACHABLE = 4
EXIT_LAUNCH_FAILED = 5


class XinError(Exception):
    """A failure with a cause in `message` (it holds the value) and what to do in `hint`."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    exit_code: ClassVar[int] = EXIT_FAILURE

    def __init__(self, message: str, hint: str | None = None, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param

    def body(self) -> ErrorBody:
        """Both shapes in one: OpenAI's `error` and the Xinference client's `detail`."""
        detail = ErrorDetail(self.message, self.type, self.param, self.code, self.hint)
        return ErrorBody(error=detail, detail=self.message)


class ErrorDetail(msgspec.Struct):
    message: str
    type: str = "server_error"
    param: str | None = None
    code: str | None = None
    hint: str | None = None


class ErrorBody(msgspec.Struct):
    error: ErrorDetail
    detail: str = ""


class BadRequest(XinError):
    code = "invalid_value"
    status = 400
    type = "invalid_request_error"
    exit_code = EXIT_USAGE


class UnsupportedParameter(BadRequest):
    code = "unsupported_parameter"


class ContextLengthExceeded(BadRequest):
    code = "context_length_exceeded"


class Unauthorized(XinError):
    code = "invalid_api_key"
    status = 401
    type = "authentication_error"


class Forbidden(XinError):
    code = "forbidden"
    status = 403
    type = "permission_error"


class NotFound(XinError):
    code = "not_found"
    status = 404
    type = "invalid_request_error"
    exit_code = EXIT_NOT_FOUND


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(XinError):
    code = "method_not_allowed"
    status = 405
    type = "invalid_request_error"


class Conflict(XinError):
    code = "conflict"
    status = 409
    type = "invalid_request_error"


class TooLarge(XinError):
    code = "request_too_large"
    status = 413
    type = "invalid_request_error"


class WrongMediaType(XinError):
    code = "unsupported_media_type"
    status = 415
    type = "invalid_request_error"


class LaunchCancelled(XinError):
    code = "launch_cancelled"
    status = 499
    type = "invalid_request_error"
    exit_code = EXIT_LAUNCH_FAILED


class InternalError(XinError):
    pass


class LoadFailed(XinError):
    code = "load_failed"
    exit_code = EXIT_LAUNCH_FAILED


class WorkerDied(XinError):
    code = "worker_died"
    exit_code = EXIT_LAUNCH_FAILED


class EngineMissing(XinError):
    code = "engine_missing"
    status = 501
    exit_code = EXIT_LAUNCH_FAILED


class Busy(XinError):
    code = "busy"
    status = 503


class OutOfMemory(XinError):
    """`short_bytes`: how much is missing, where it is known."""

    code = "out_of_memory"
    status = 507
    exit_code = EXIT_LAUNCH_FAILED
    short_bytes: int = 0


class DiskFull(XinError):
    code = "disk_full"
    status = 507


class Unreachable(XinError):
    code = "unreachable"
    status = 502
    exit_code = EXIT_UNREACHABLE


class ForeignServer(Unreachable):
    code = "foreign_server"


class SessionFileError(XinError):
    code = "session_file"


class UsageError(XinError):
    code = "usage"
    status = 400
    type = "invalid_request_error"
    exit_code = EXIT_USAGE


def from_code(
    code: str | None, message: str, *, status: int = 500, hint: str | None = None, param: str | None = None
) -> XinError:
    """The error class of a body or frame that another process sent; by code, else by status."""
    cls = _BY_CODE.get(code or "") or _BY_STATUS.get(status, InternalError)
    return cls(message, hint, param=param)


def _tree(cls: type[XinError]) -> list[type[XinError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in _tree(sub))]


_BY_CODE = {cls.code: cls for cls in reversed(_tree(XinError)) if cls is not XinError}
_BY_STATUS: dict[int, type[XinError]] = {}
for _cls in _tree(XinError)[1:]:
    _BY_STATUS.setdefault(_cls.status, _cls)
