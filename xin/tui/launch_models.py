"""What can be chosen for a launch: the catalogue of all nodes and what lies on them, in groups. Without any looks."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from xin.protocol.node import CatalogueModel, Job, LocalModel


@dataclass(slots=True)
class ModelGroup:
    """One model of one size in all its quantizations. `nodes`: the ids of those that know it.

    name   what a plan is asked for, with `size` where the catalogue has several
    here   what of it is on a node already
    age    how many launches ago it was launched last; None = not of late
    """

    name: str
    title: str
    size: float | None = None
    catalogued: bool = False
    description: str = ""
    abilities: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    context_length: int = 0
    notes: list[str] = field(default_factory=list)
    quantizations: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    here: list[LocalModel] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    age: int | None = None

    @property
    def key(self) -> str:
        return f"{self.title}\t{self.billions}"

    @property
    def billions(self) -> str:
        """7B, 135M; "" when it is not known."""
        if not self.size:
            return ""
        return f"{self.size:g}B" if self.size >= 1 else f"{self.size * 1000:g}M"

    @property
    def names(self) -> set[str]:
        """Under which it can be launched from what is here."""
        return {self.name, *(model.model_name for model in self.here)}

    @property
    def words(self) -> str:
        """What a search looks in."""
        parts = [self.title, self.billions, self.description, *self.formats, *self.abilities, *self.languages]
        return " ".join([*parts, *self.quantizations]).lower()

    def add(self, quantizations: Iterable[str], formats: Iterable[str], node_id: str) -> None:
        self.quantizations += [one for one in dict.fromkeys(quantizations) if one not in self.quantizations]
        self.formats += [one for one in dict.fromkeys(formats) if one not in self.formats]
        if node_id not in self.nodes:
            self.nodes.append(node_id)


Groups = dict[tuple[str, float | None], ModelGroup]


def groups(
    models: Mapping[str, Sequence[LocalModel]],
    catalogues: Mapping[str, Sequence[CatalogueModel]],
    jobs: Sequence[Job],
) -> list[ModelGroup]:
    """By node id: what is there, and the catalogues. Launched of late first, then what is here, then by name.

    `jobs`: newest first.
    """
    found: Groups = {}
    for node_id, families in catalogues.items():
        for family in families:
            if family.origin != "found":  # that is among the models
                _add_family(found, family, node_id)
    families_known = {title for title, _ in found}
    for node_id, listed in models.items():
        for model in listed:
            _add_local(found, model, node_id, families_known)
    launched = [name for job in jobs if (name := _launched(job))]
    ages = {name: age for age, name in reversed(list(enumerate(launched)))}
    for group in found.values():
        names = {group.title, *group.names} if group.here else set()
        group.age = min((ages[name] for name in names if name in ages), default=None)
    return sorted(
        found.values(),
        key=lambda one: (one.age is None, one.age or 0, not one.here, one.title.lower(), one.size or 0),
    )


def search(listed: Sequence[ModelGroup], text: str) -> list[ModelGroup]:
    """Those with all words; where the name begins with the text, first."""
    words = text.lower().split()
    fitting = [group for group in listed if all(word in group.words for word in words)]
    return sorted(fitting, key=lambda group: not group.title.lower().startswith(text.lower().strip()))


def _add_family(found: Groups, family: CatalogueModel, node_id: str) -> None:
    for entry in family.entries:
        key = (family.model_name, entry.model_size_in_billions)
        group = found.get(key)
        if group is None:
            group = found[key] = ModelGroup(
                family.model_name,
                family.model_name,
                entry.model_size_in_billions,
                catalogued=True,
                description=family.description,
                abilities=family.model_ability,
                languages=family.model_lang,
                context_length=family.context_length,
                notes=family.notes,
            )
        group.add(entry.quantizations, [entry.model_format], node_id)


def _add_local(found: Groups, model: LocalModel, node_id: str, families: set[str]) -> None:
    title = _title(model)
    key = (title, model.model_size_in_billions if title in families else None)
    group = found.get(key)
    if group is None:
        group = found[key] = ModelGroup(
            model.model_name,
            title,
            model.model_size_in_billions,
            description=model.description,
            abilities=model.model_ability,
            languages=model.model_lang,
            context_length=model.context_length,
        )
    if all(known.quantization != model.quantization for known in group.here):
        group.here.append(model)
    group.add([model.quantization], [model.model_format], node_id)


def _launched(job: Job) -> str:
    words = shlex.split(job.command) if job.kind == "launch" else []
    return words[2] if len(words) > 2 else ""


def _title(model: LocalModel) -> str:
    """The name without its quantization."""
    if model.source == "file":
        return model.model_name.removesuffix(f".{model.quantization}").removesuffix(f"-{model.quantization}")
    return model.model_name.partition(":")[0]
