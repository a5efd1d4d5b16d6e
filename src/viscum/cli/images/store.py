"""`viscum store show` and `viscum store set`."""

from __future__ import annotations

from ... import images, storing
from ...errors import SpecError
from ...image.settings import OVER, STORAGES
from ...limits import parse_size
from ...storage_choice import measured
from ..format import check_form, print_rows
from ..listing import Column, size
from .options import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...image.room import Usage
    from ...image.settings import Measured, StoreSettings
    from ..parser import Parsed

__all__ = ["change", "main", "of_quota"]

AUTO = "auto"
"""What is measured decides."""
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
    usage, known, settings = storing.usage(store), measured(store), storing.configure(store)
    if form is not None:
        record = {
            "Blobs": usage.blobs,
            "Partial": usage.partial,
            "Layers": usage.layers,
            "Images": usage.images,
            "Total": usage.total,
            "Quota": settings.quota or 0,
            "OverQuota": settings.over,
            "Storage": settings.storage or known.best,
            "StorageSet": settings.storage,
            "Measured": {name.capitalize(): value for name, value in vars(known).items()},
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
    kept = f"new images are kept as ({'set' if settings.storage else 'measured'})"
    rows += [{"What": kept, "Size": settings.storage or known.best}]
    rows += [{"What": what, "Size": time} for what, time in _times(known)]
    print_rows(rows, COLUMNS, None)
    return 0


def _times(known: Measured) -> list[tuple[str, str]]:
    """Return what was measured of a root in each form, for people."""
    if known.reason:
        return [("a root of EROFS", f"none: {known.reason}")]
    times = (("a root of folders", known.overlay), ("a root of EROFS", known.erofs))
    return [(f"{what} (measured)", f"{time / 1000:.2f}ms") for what, time in times]


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
    over = _chosen(parsed, "over_quota", OVER)
    if over is not None:
        changes["over"] = over
    storage = _chosen(parsed, "storage", (*STORAGES, AUTO))
    if storage is not None:
        changes["storage"] = "" if storage == AUTO else storage
    if not changes:
        raise SpecError("there is nothing to set", hint="viscum store set --quota 20g")
    images.check_storage(None if storage == AUTO else storage)
    store = images.own_store()
    settings = storing.configure(store, **changes)
    usage = storing.usage(store)
    print(f"the store has {of_quota(usage, settings)}")
    return 0
