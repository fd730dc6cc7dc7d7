"""The config of a run in the shapes that the API answers. Blocks: plug-ins of the recipe may have to be imported."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from services.api.schemas.config import ConfigObject, LiveKeyObject, LiveRowObject, PendingObject
from services.control.live_config import base_recipe, current_recipe
from services.control.records import ConfigGeneration, RunRecord
from services.control.redaction import Redactor
from services.live.document import find_owner
from services.live.keys import live_keys
from services.live.meanings import meaning_of
from services.live.rows import ROWS


def config_object(record: RunRecord, configs: tuple[ConfigGeneration, ...], redactor: Redactor) -> ConfigObject:
    """The recipe with every live change, and the keys that may change.

    Raises:
        RecipeError: this version of lessrl cannot read the run's recipe.
    """
    base, now = base_recipe(record), current_recipe(record, configs)
    plain = now.as_dict()
    keys = [LiveKeyObject(**_json(asdict(each)), value=_value(plain, each.key)) for each in live_keys(now, base=base)]
    return ConfigObject(
        generation=record.config_generation,
        config=redactor.data(plain),
        live_keys=keys,
        pending=_pending(configs, redactor),
    )


def live_rows() -> list[LiveRowObject]:
    """Every key that may be live."""
    return [
        LiveRowObject(
            key=row.key,
            applies=row.applies,
            kind=row.kind,
            minimum=row.range.minimum,
            maximum=row.range.maximum,
            above=row.range.above,
            below=row.range.below,
            choices=list(row.choices),
            meaning=meaning_of(row),
        )
        for row in ROWS
    ]


def _pending(configs: Iterable[ConfigGeneration], redactor: Redactor) -> dict[str, PendingObject]:
    return {
        key: PendingObject(value=redactor.data(value), applies=each.applies.get(key, ""))
        for each in configs
        if each.at_step is None and not each.error
        for key, value in each.values.items()
    }


def _value(plain: dict[str, Any], key: str) -> Any:
    owner, name = find_owner(plain, key)
    return owner.get(name)


def _json(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "choices": list(fields["choices"])}
