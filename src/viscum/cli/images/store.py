"""`viscum store show` and `viscum store set`."""

from __future__ import annotations

from ... import images, storing
from ...errors import SpecError
from ...image.settings import OVER, STORAGES
from ...spec import parse_size
from ..format import check_form, print_rows
from ..listing import Column, size
from .options import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...image.room import Usage
    from ...image.settings import StoreSettings
    from ..parser import Parsed

__all__ = ["change", "main", "of_quota"]

COLUMNS = (
    Column("What", "WHAT", front=True),
    Column("Size", "SIZE", right=True),
)


def of_quota(usage: Usage, settings: StoreSettings) -> str:
    """Return how much a store holds, and how much it may hold."""
    if settings.quota is None:
        return size(usage.total)
    return f"{size(usage.total)} of {size(settings.quota)}"


def main(parsed: Parsed) -> int:
    """Tell what the store takes, what it may take, and how it keeps images."""
    words(parsed, 0, 0, "store show [OPTIONS]")
    form = parsed.text("format")
    check_form(form)
    store = images.own_store()
    usage, settings = storing.usage(store), storing.configure(store)
    if form is not None:
        record = {
            "Blobs": usage.blobs,
            "Partial": usage.partial,
            "Layers": usage.layers,
            "Images": usage.images,
            "Total": usage.total,
            "Quota": settings.quota or 0,
            "OverQuota": settings.over,
            "Storage": settings.storage,
        }
        print_rows([record], (), form)
        return 0
    parts = (
        ("blobs", usage.blobs),
        ("blobs on their way", usage.partial),
        ("unpacked layers", usage.layers),
        ("EROFS images", usage.images),
        ("in all", usage.total),
    )
    rows: list[dict[str, object]] = [{"What": what, "Size": size(count)} for what, count in parts]
    quota = "none" if settings.quota is None else size(settings.quota)
    rows += [{"What": f"quota ({settings.over})", "Size": quota}]
    rows += [{"What": "new images are kept as", "Size": settings.storage}]
    print_rows(rows, COLUMNS, None)
    return 0


def _chosen(parsed: Parsed, name: str, allowed: tuple[str, ...]) -> str | None:
    given = parsed.text(name)
    if given is not None and given not in allowed:
        flag = "--" + name.replace("_", "-")
        raise SpecError(f"{flag} {given!r} is unknown", hint=f"one of: {', '.join(allowed)}")
    return given


def change(parsed: Parsed) -> int:
    """Change settings of the store; they hold for everybody who uses it from now on."""
    words(parsed, 0, 0, "store set [OPTIONS]")
    changes: dict[str, object] = {}
    quota = parsed.text("quota")
    if quota is not None:
        changes["quota"] = None if quota == "none" else parse_size(quota, "quota")
    for name, field, allowed in (("over_quota", "over", OVER), ("storage", "storage", STORAGES)):
        given = _chosen(parsed, name, allowed)
        if given is not None:
            changes[field] = given
    if not changes:
        raise SpecError("there is nothing to set", hint="viscum store set --quota 20g")
    images.check_storage(parsed.text("storage"))
    store = images.own_store()
    settings = storing.configure(store, **changes)
    usage = storing.usage(store)
    print(f"the store has {of_quota(usage, settings)}")
    return 0
