"""Which registries a name leads to: containers-registries.conf(5), version 2."""

from __future__ import annotations

import os

from ..errors import ImageError
from ..frozen import Frozen
from . import short_names
from .configuration import read_toml
from .reference import Reference, is_short, parse_reference

__all__ = ["Endpoint", "Registries", "read_registries"]


class Endpoint(Frozen):
    """A place to ask for an image: registry, path and how far it is trusted with TLS."""

    registry: str
    path: str
    insecure: bool = False


class Mirror(Frozen):
    """A copy of a registry: where it is and what it is asked for (all, digest-only, tag-only)."""

    location: str
    insecure: bool = False
    pulls: str = "all"


class Rule(Frozen):
    """One [[registry]] table."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()

    def covers(self, reference: Reference) -> int:
        """Return how many characters of the name this rule's prefix covers, 0 for none."""
        if self.prefix.startswith("*."):
            host = reference.registry
            return len(self.prefix) if host.endswith(self.prefix[1:]) else 0
        name = str(reference)
        if not name.startswith(self.prefix):
            return 0
        after = name[len(self.prefix) : len(self.prefix) + 1]
        return len(self.prefix) if after in ("", "/", ":", "@") else 0

    def rewrite(self, location: str, reference: Reference) -> tuple[str, str]:
        """Return registry and path of `reference` with the prefix replaced by `location`."""
        name = reference.repository
        if location and not self.prefix.startswith("*."):
            plain = self.prefix.partition("@")[0]
            if ":" in plain.rpartition("/")[2] and "/" in plain:
                plain = plain.rpartition(":")[0]
            name = location + name[len(plain) :]
        elif location:
            name = f"{location}/{reference.path}"
        registry, _, path = name.partition("/")
        return registry, path


class Registries(Frozen):
    """The configuration in force."""

    rules: tuple[Rule, ...] = ()
    search: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    helpers: tuple[str, ...] = ()
    mode: str = "permissive"

    def rule(self, reference: Reference) -> Rule | None:
        """Return the rule with the longest prefix that covers `reference`."""
        rules = [(rule.covers(reference), rule) for rule in self.rules]
        covering = [(length, rule) for length, rule in rules if length]
        return max(covering, key=lambda pair: pair[0])[1] if covering else None

    def endpoints(self, reference: Reference, *, writes: bool = False) -> tuple[Endpoint, ...]:
        """Return the places to ask for `reference`, mirrors first; raises ImageError if blocked."""
        rule = self.rule(reference)
        if rule is None:
            return (Endpoint(reference.registry, reference.path),)
        if rule.blocked:
            raise ImageError(
                f"registry {reference.registry!r} is blocked for {str(reference)!r}",
                hint=f"registries.conf blocks the prefix {rule.prefix!r}",
            )
        wanted = "digest-only" if reference.digest else "tag-only"
        mirrors = [m for m in rule.mirrors if m.pulls in ("all", wanted) and not writes]
        places = [(*rule.rewrite(m.location, reference), m.insecure) for m in mirrors]
        own = rule.rewrite("" if writes else rule.location, reference)
        return tuple(Endpoint(*place) for place in (*places, (*own, rule.insecure)))

    def candidates(self, text: str) -> tuple[Reference, ...]:
        """Return the full names that `text` may stand for, in the order they are tried; raises
        ImageError where there are several, and one has to be chosen.
        """
        found = self.choices(text)
        if len(found) > 1 and self.mode == "enforcing":
            raise ImageError(
                f"short name {text!r} could be of {', '.join(self.search)}",
                hint="write the registry too, or choose at a terminal: the mode is enforcing",
            )
        return found

    def choices(self, text: str) -> tuple[Reference, ...]:
        """Return the full names that `text` may stand for, whatever the mode is."""
        if not is_short(text):
            return (parse_reference(text),)
        plain = parse_reference(text, "localhost")
        alias = dict(self.aliases).get(plain.path)
        if alias:
            known = parse_reference(alias)
            return (known.replace(tag=plain.tag, digest=plain.digest),)
        if not self.search:
            raise ImageError(
                f"short name {text!r} is neither an alias nor searched for in a registry",
                hint="write the registry too, such as docker.io/library/NAME, or set "
                "unqualified-search-registries in registries.conf",
            )
        return tuple(parse_reference(text, registry) for registry in self.search)


def configuration_files() -> list[str]:
    """Return the files in force, in the order they are read; an absent one is left out."""
    given = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    if given:
        return [given]
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    own = f"{base}/containers/registries.conf"
    main = own if os.geteuid() and os.path.exists(own) else "/etc/containers/registries.conf"
    files = [main] if os.path.exists(main) else []
    for folder in dict.fromkeys(("/etc/containers/registries.conf.d", f"{own}.d")):
        if os.path.isdir(folder):
            names = sorted(name for name in os.listdir(folder) if name.endswith(".conf"))
            files += [os.path.join(folder, name) for name in names]
    return files


def read_registries(files: list[str] | None = None) -> Registries:
    """Return what the configuration files say; raises ImageError for one that is malformed."""
    paths = configuration_files() if files is None else files
    made = Registries()
    rules: dict[str, Rule] = {}
    aliases: dict[str, str] = {}
    for path in paths:
        table = read_toml(path)
        made = made.replace(**_globals(table, path, made))
        for rule in _rules(table, path):
            rules[rule.prefix] = rule
        aliases.update(_aliases(table, path))
    chosen = short_names.path()
    if files is None and os.path.exists(chosen):
        aliases.update(_aliases(read_toml(chosen), chosen))
    known = tuple((name, value) for name, value in aliases.items() if value)
    search = made.search if paths and any(_is_main(path) for path in paths) else None
    if search is None:
        made = made.replace(search=made.search or ("docker.io",))
    return made.replace(rules=tuple(rules.values()), aliases=known)


def _is_main(path: str) -> bool:
    return not path.rpartition("/")[0].endswith(".conf.d")


def _take(table: dict[str, object], key: str, kind: type, path: str, default: object) -> object:
    value = table.get(key, default)
    if not isinstance(value, kind):
        raise ImageError(f"{path}: {key!r} is {type(value).__name__}, not {kind.__name__}")
    return value


def _texts(table: dict[str, object], key: str, path: str) -> tuple[str, ...]:
    found = _take(table, key, list, path, [])
    if not all(isinstance(item, str) for item in found):  # type: ignore[attr-defined]
        raise ImageError(f"{path}: {key!r} holds more than texts")
    return tuple(found)  # type: ignore[arg-type]


def _globals(table: dict[str, object], path: str, before: Registries) -> dict[str, object]:
    if "registries" in table:
        raise ImageError(
            f"{path} has the old format, version 1", hint="containers-registries.conf(5)"
        )
    fields: dict[str, object] = {}
    if "unqualified-search-registries" in table:
        fields["search"] = _texts(table, "unqualified-search-registries", path)
    if "credential-helpers" in table:
        fields["helpers"] = _texts(table, "credential-helpers", path)
    mode = _take(table, "short-name-mode", str, path, before.mode) or "permissive"
    if mode not in ("enforcing", "permissive", "disabled"):
        raise ImageError(
            f"{path}: short-name-mode {mode!r} is unknown", hint="enforcing, permissive, disabled"
        )
    return {**fields, "mode": mode}


def _aliases(table: dict[str, object], path: str) -> dict[str, str]:
    found = _take(table, "aliases", dict, path, {})
    aliases: dict[str, str] = {}
    for name, value in found.items():  # type: ignore[attr-defined]
        if not isinstance(value, str):
            raise ImageError(f"{path}: alias {name!r} is no text")
        if value and (is_short(value) or parse_reference(value).target != "latest"):
            raise ImageError(f"{path}: alias {name!r} leads to {value!r}, no full name")
        aliases[name] = value
    return aliases


def _location(table: dict[str, object], key: str, path: str) -> str:
    text = str(_take(table, key, str, path, "")).rstrip("/")
    if "://" in text or " " in text:
        raise ImageError(f"{path}: {key} {text!r} is no place of a registry", hint="HOST[:PORT]/…")
    return text


def _rules(table: dict[str, object], path: str) -> list[Rule]:
    rules = []
    for one in _take(table, "registry", list, path, []):  # type: ignore[attr-defined]
        if not isinstance(one, dict):
            raise ImageError(f"{path}: a registry is no table")
        location = _location(one, "location", path)
        prefix = _location(one, "prefix", path) or location
        if not prefix or (not location and not prefix.startswith("*.")):
            raise ImageError(f"{path}: a [[registry]] has no location")
        flags = {key: bool(_take(one, key, bool, path, False)) for key in ("insecure", "blocked")}
        mirrors = tuple(_mirrors(one, path))
        rules.append(Rule(prefix, location, mirrors=mirrors, **flags))
    return rules


def _mirrors(table: dict[str, object], path: str) -> list[Mirror]:
    by_digest = _take(table, "mirror-by-digest-only", bool, path, False)
    mirrors = []
    for one in _take(table, "mirror", list, path, []):  # type: ignore[attr-defined]
        if not isinstance(one, dict):
            raise ImageError(f"{path}: a mirror is no table")
        location = _location(one, "location", path)
        pulls = str(_take(one, "pull-from-mirror", str, path, "")) or "all"
        if by_digest and pulls != "all":
            raise ImageError(f"{path}: pull-from-mirror beside mirror-by-digest-only")
        if not location or pulls not in ("all", "digest-only", "tag-only"):
            raise ImageError(f"{path}: a mirror is malformed: {location!r}, {pulls!r}")
        insecure = bool(_take(one, "insecure", bool, path, False))
        mirrors.append(Mirror(location, insecure, "digest-only" if by_digest else pulls))
    return mirrors
