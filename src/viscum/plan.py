"""The launch program: its vocabulary, its printed form and its encoding.

A plan is a flat tuple of small operations, ordered by section. The vocabulary below is the only
definition: `tools/gen_vocabulary.py` writes `native/vocabulary.h` from it, and the decoder in
`native/decode.c` checks every argument by the kind given here.

Encoding, version 1, little-endian: a header of 32 bytes, records of 64 bytes (code, section,
seven unsigned 64-bit arguments), then a table of bytes that begins and ends with NUL. A string is
an offset into the table, a blob an offset and a length.
"""

from __future__ import annotations

from .errors import PlanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Value = int | str | bytes | tuple[int, ...]

__all__ = ["NONE", "PARAMETERS", "SECTIONS", "VERSION", "Operation", "Plan", "op"]

MAGIC = b"VISCUMPL"
VERSION = 1
RECORD_SIZE = 64
HEADER_SIZE = 32
MAX_OPERATIONS = 4096
MAX_TABLE = 1 << 22
SLOTS = 1024
NONE = 65535
"""Stands for "no slot" where one may be left out."""

TARGET_SLOT, LIFE_SLOT, NETWORK_SLOT, FIRST_SLOT = 3, 4, 5, 8
"""Slots with a meaning: 0 to 2 are the standard streams, then the machine to join, the pipe that it
lives by, its network namespace; from FIRST_SLOT on a plan uses them as it likes."""

PARAMETER_BIT = 1 << 31
PARAMETERS = ("id",)
"""What a launch fills in; a string argument names one as `{id}`."""

SECTIONS = ("load", "prepare", "spawn", "adopt", "enter", "exec", "release")

# Kinds of argument: I integer, S string, B blob, N blob of NUL-ended strings,
# F slot, O slot or none, L slots. A trailing "x" prints an integer in hexadecimal, "o" in octal.
_VOCABULARY = """
load    open            slot:F path:S flags:Ix       | open a folder or file of the host as a handle
load    expect-host     machine:S release:S          | refuse another architecture or kernel
load    expect-file     slot:F dev:I ino:I           | refuse a file that was replaced
load    program         slot:F path:S                | keep a sealed copy of a static program
load    userns          slot:F uid_map:S gid_map:S   | keep a user namespace for id-mapped mounts
load    devices         slot:F uid:I gid:I           | keep a /dev with the standard nodes
load    device          slot:F path:S mode:Io device:Ix uid:I gid:I | add a node to a kept /dev
load    cgroup-root     slot:F path:S                | open the parent of the machines' cgroups
load    inherit         slot:F number:I              | take a descriptor that the caller has open
load    namespace       slot:F path:S                | open a namespace
load    data            slot:F data:B                | keep bytes in a sealed file
load    erofs           slot:F file:F                | mount an image file, attached nowhere
prepare cgroup          slot:F root:F name:S         | make the machine's cgroup
prepare cgroup-write    slot:F file:S data:S         | set one limit
prepare cgroup-open     slot:F cgroup:F file:S       | open the file that a task enters through
prepare tree            slot:F source:F idmap:O set:Ix clear:Ix recursive:I | clone a mount tree
prepare open-in         slot:F dir:F name:S flags:Ix | open below a folder
prepare hold            slot:F path:S                | hold a folder or file against removal
prepare sockets         near:F far:F                 | make the pair that a terminal is passed over
prepare idmap           slot:F userns:F recursive:I  | map the ids of a cloned mount tree
prepare time-join       slot:F own:F                 | enter a time namespace for the launch
prepare oom-score       score:S                      | take on the machine's score for the launch
prepare cgroup-path     slot:F root:F path:S         | make a cgroup, with those above it
prepare device-filter   cgroup:F program:B           | attach a filter of devices to a v2 cgroup
spawn   clone           flags:Ix cgroup:O            | clone the child
adopt   setgroups-deny                               | forbid setgroups in the user namespace
adopt   map             file:S data:S                | write an id map
adopt   helper          path:S arguments:N           | run a program of the host on the child
adopt   cgroup-leave    slot:F                       | have the parent go back to a cgroup
adopt   permit          step:I                       | let the child go on from a `wait-for`
adopt   meet            step:I                       | wait until the child has come to a `reach`
adopt   hook path:S arguments:N environment:N before:B after:B timeout:I output:O | run a hook
adopt   service         path:S arguments:N slot:F cgroup:O | start a program that stays with it
enter   join            slot:F flags:Ix own:Ix       | enter namespaces of a running machine
enter   await                                        | wait until the parent has adopted
enter   reach           step:I                       | tell the parent of a step
enter   wait-for        step:I                       | wait until the parent permits a step
enter   refork                                       | go on as a child in the new namespaces
enter   hook-inside path:S arguments:N environment:N before:B after:B timeout:I output:O | hook
enter   parent-death    signal:I                     | die with the parent
enter   cgroup-join     slot:F                       | enter a cgroup v1 group
enter   unshare         flags:Ix                     | leave namespaces
enter   become          uid:I gid:I                  | take the ids of the namespace's root
enter   propagation     flags:Ix                     | cut the mount tree from the host's
enter   fsmount         slot:F type:S source:S options:N attributes:Ix | make a file system
enter   overlay         slot:F lower:L scratch:F upper:S work:S options:N attributes:Ix | overlay
enter   clone-tree      slot:F dir:O path:S recursive:I set:Ix | clone a mount tree
enter   attach          slot:F dir:O target:S create:Io | attach a mount
enter   set-attributes  slot:F set:Ix clear:Ix propagation:Ix recursive:I | of a mount
enter   set-xattr       slot:F name:S value:S        | set an extended attribute of a mount's root
enter   cover           slot:F path:S folder:F       | attach over a folder of the old root, or all
enter   clone-anew      slot:F recursive:I           | clone a mount again, which then comes last
enter   cover-copy      slot:F dir:F path:S          | copy what a mount will hide into it
enter   device-node     dir:F path:S mode:Io device:Ix uid:I gid:I | make a node, and its folders
enter   device-link     dir:F path:S target:S        | make a symbolic link, and its folders
enter   mask            dir:F path:S file:F folder:F | hide what is at a path, if anything
enter   read-only       dir:F path:S                 | make what is at a path read-only, if anything
enter   fail            errno:I message:S            | refuse
enter   mkdir           dir:F path:S mode:Io         | make a folder
enter   opaque          dir:F path:S mode:Io         | make a folder that hides the one below it
enter   symlink         dir:F path:S target:S        | make a symbolic link
enter   file            dir:F path:S mode:Io data:B  | make a file
enter   node            dir:F path:S mode:Io device:Ix | make a device node
enter   lookup          slot:F dir:O path:S flags:Ix | open below the new root
enter   write           dir:F path:S data:S          | write to a file that exists
enter   seal            dir:F path:S set:Ix recursive:I | change attributes of a mount
enter   pivot           slot:F                       | make the new root the root
enter   move-root       slot:F                       | make the new root the root, with no pivot
enter   hostname        name:S                       | set the host name
enter   domainname      name:S                       | set the NIS domain name
enter   network-make    slot:F                       | have a network namespace made meanwhile
enter   network-join    slot:F                       | enter the network namespace that was made
enter   loopback                                     | bring lo up
enter   rlimit          resource:I soft:I hard:I     | set a resource limit
enter   umask           mode:Io                      | set the file mode mask
enter   session                                      | start a session
enter   terminal        socket:F                     | make a terminal and hand it over
enter   console         socket:F rows:I columns:I uid:I | make a terminal, hand it to an engine
enter   own-streams     uid:I gid:I                  | give the standard streams to the user
enter   stdio                                        | put the given descriptors on 0, 1 and 2
enter   personality     domain:Ix                    | set the execution domain
enter   scheduler policy:I nice:I priority:I flags:Ix runtime:I deadline:I period:I | set scheduling
enter   io-priority     value:Ix                     | set the class and level of block I/O
enter   affinity        mask:B                       | choose the CPUs to run on
enter   groups          list:S                       | set the additional groups
enter   user            uid:I gid:I keep:I           | take the user's ids
enter   capabilities    bounding:Ix                  | limit what execve can leave
enter   working-folder  path:S                       | change the working folder
enter   inner-folder    path:S create:I              | change to a folder that is inside of the root
enter   privileges bounding:Ix effective:Ix permitted:Ix inheritable:Ix ambient:Ix uid:I gid:I | ids
enter   find-program    file:S path:S                | refuse a command that is not there
enter   no-new-privileges                            | no gain through setuid programs
enter   session-keyring                              | leave the caller's keys
enter   landlock        scoped:Ix                    | confine sockets and signals
enter   close                                        | close every other descriptor on exec
enter   close-from      first:I                      | close descriptors from a number up on exec
enter   pass            slot:F number:I              | leave a descriptor open in the command
enter   seccomp         program:B flags:Ix           | load the system call filter
enter   seccomp-listen  program:B flags:Ix socket:F before:B between:B after:B | and hand it over
exec    exec            file:S arguments:N environment:N path:S | run the command
exec    exec-slot       slot:F arguments:N environment:N | run an opened program
exec    exec-boot program:F data:F gate:O attr:O arguments:N environment:N | run a container's init
release service-end     slot:F                       | end a service
release cgroup-remove   slot:F root:F name:S         | remove the machine's cgroup
release cgroup-path-end slot:F root:F path:S         | remove a cgroup made by its path
"""


class Verb:
    """One word of the vocabulary: its code, where it may stand and what it takes."""

    __slots__ = ("code", "doc", "kinds", "name", "names", "section")

    def __init__(self, code: int, section: int, name: str, arguments: str, doc: str) -> None:
        pairs = [argument.split(":") for argument in arguments.split()]
        self.code = code
        self.section = section
        self.name = name
        self.names = tuple(pair[0] for pair in pairs)
        self.kinds = tuple(pair[1] for pair in pairs)
        self.doc = doc


def _read_vocabulary() -> dict[str, Verb]:
    verbs = {}
    for code, line in enumerate(_VOCABULARY.strip().splitlines(), 1):
        head, doc = line.split("|")
        words = head.split(None, 2)
        arguments = words[2] if len(words) > 2 else ""
        verbs[words[1]] = Verb(code, SECTIONS.index(words[0]), words[1], arguments, doc.strip())
    return verbs


VERBS: Mapping[str, Verb] = _read_vocabulary()
_BY_CODE = {verb.code: verb for verb in VERBS.values()}


class Operation:
    """One step of a launch; compares by value."""

    __slots__ = ("values", "verb")

    def __init__(self, verb: Verb, values: tuple[Value, ...]) -> None:
        self.verb = verb
        self.values = values

    @property
    def name(self) -> str:
        """The operation's word in the vocabulary."""
        return self.verb.name

    @property
    def section(self) -> str:
        """The section the operation runs in."""
        return SECTIONS[self.verb.section]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Operation) and self.verb is other.verb and self.values == other.values
        )

    def __hash__(self) -> int:
        return hash((self.verb.code, self.values))

    def __getitem__(self, name: str) -> Value:
        return self.values[self.verb.names.index(name)]

    def __repr__(self) -> str:
        return f"<{self.describe()}>"

    def describe(self) -> str:
        """Return the operation as a person reads it: the verb, then `name=value` pairs."""
        words = [self.verb.name]
        for name, kind, value in zip(self.verb.names, self.verb.kinds, self.values, strict=True):
            words.append(f"{name}={_describe_value(kind, value)}")
        return " ".join(words)

    def as_dict(self) -> dict[str, object]:
        """Return the operation as plain data for JSON; blobs as hexadecimal."""
        plain: dict[str, object] = {"section": self.section, "operation": self.verb.name}
        for name, kind, value in zip(self.verb.names, self.verb.kinds, self.values, strict=True):
            if kind == "N" and isinstance(value, bytes):
                plain[name] = _strings(value)
            elif isinstance(value, bytes):
                plain[name] = value.hex()
            else:
                plain[name] = list(value) if isinstance(value, tuple) else value
        return plain


def _strings(blob: bytes) -> list[str]:
    return [part.decode("utf-8", "surrogateescape") for part in blob.split(b"\0")[:-1]]


def _describe_value(kind: str, value: Value) -> str:
    if isinstance(value, bytes):
        return repr(_strings(value)) if kind == "N" else f"<{len(value)} bytes>"
    if isinstance(value, str):
        return value if value and value.isprintable() and " " not in value else repr(value)
    if isinstance(value, tuple):
        return "+".join(f"#{slot}" for slot in value) or "none"
    if kind in ("F", "O"):
        return "none" if value == NONE else f"#{value}"
    if kind == "Ix":
        return hex(value)
    return oct(value) if kind == "Io" else str(value)


def op(name: str, *values: Value) -> Operation:
    """Return the operation `name` with `values` in the order of the vocabulary.

    Lists of strings are passed as NUL-ended bytes, slots and flags as integers.
    """
    verb = VERBS[name]
    if len(values) != len(verb.names):
        raise PlanError(f"operation {name} takes {len(verb.names)} values, got {len(values)}")
    return Operation(verb, values)


def nul_ended(strings: Iterable[str]) -> bytes:
    """Join `strings` as the plan stores lists: each ended by a NUL byte."""
    encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
    for string in encoded:
        if b"\0" in string:
            raise PlanError(f"{string!r} contains a NUL byte")
    return b"".join(string + b"\0" for string in encoded)


class _Table:
    """The byte table of a plan; the same bytes are stored once."""

    def __init__(self) -> None:
        self.bytes = bytearray(b"\0")
        self.offsets: dict[bytes, int] = {b"\0": 0}

    def _add(self, data: bytes) -> int:
        offset = self.offsets.get(data)
        if offset is None:
            offset = self.offsets[data] = len(self.bytes)
            self.bytes += data
        return offset

    def string(self, text: str) -> int:
        if text[:1] == "{" and text[1:-1] in PARAMETERS:
            return PARAMETER_BIT | PARAMETERS.index(text[1:-1])
        data = text.encode("utf-8", "surrogateescape")
        if b"\0" in data:
            raise PlanError(f"{text!r} contains a NUL byte")
        return self._add(data + b"\0")

    def blob(self, data: bytes) -> int:
        return self._add(data + b"\0") << 32 | len(data)


def _encode_value(table: _Table, value: Value) -> int:
    if isinstance(value, str):
        return table.string(value)
    if isinstance(value, bytes):
        return table.blob(value)
    if isinstance(value, tuple):
        return table.blob(b"".join(slot.to_bytes(2, "little") for slot in value))
    return value & (1 << 64) - 1


class Plan:
    """A compiled launch program; compares by its operations."""

    __slots__ = ("operations",)

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = tuple(operations)
        sections = [operation.verb.section for operation in self.operations]
        if sections != sorted(sections):
            raise PlanError("the operations are not in the order of their sections")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.operations == other.operations

    def __hash__(self) -> int:
        return hash(self.operations)

    def describe(self) -> str:
        """Return the plan as a person reads it, one operation a line under its section."""
        lines, section = [], ""
        for index, operation in enumerate(self.operations):
            if operation.section != section:
                section = operation.section
                lines.append(f"{section}:")
            lines.append(f"  {index:3d}  {operation.describe()}")
        return "\n".join(lines)

    def encode(self) -> bytes:
        """Return the plan in the form that the core and `viscum-launch` run."""
        table = _Table()
        records = bytearray()
        for operation in self.operations:
            verb = operation.verb
            values = [_encode_value(table, value) for value in operation.values]
            records += verb.code.to_bytes(4, "little") + verb.section.to_bytes(4, "little")
            for value in values + [0] * (7 - len(values)):
                records += value.to_bytes(8, "little")
        table.bytes += b"\0"
        if len(self.operations) > MAX_OPERATIONS or len(table.bytes) > MAX_TABLE:
            raise PlanError(
                f"the plan is too large: {len(self.operations)} operations, "
                f"{len(table.bytes)} bytes of strings",
                hint=f"at most {MAX_OPERATIONS} operations and {MAX_TABLE} bytes",
            )
        counts = (VERSION, len(self.operations), len(table.bytes), len(PARAMETERS), 0, 0)
        return MAGIC + b"".join(n.to_bytes(4, "little") for n in counts) + records + table.bytes

    @classmethod
    def decode(cls, data: bytes) -> Plan:
        """Return the plan encoded in `data`; the inverse of `encode`, for printing.

        Raises PlanError where the core's decoder would refuse the header or a record.
        """
        count, table = _decode_header(data)
        operations = []
        for index in range(count):
            start = HEADER_SIZE + index * RECORD_SIZE
            record = data[start : start + RECORD_SIZE]
            verb = _BY_CODE.get(int.from_bytes(record[:4], "little"))
            if verb is None:
                raise PlanError(f"operation {index} is of an unknown kind")
            raw = [int.from_bytes(record[at : at + 8], "little") for at in range(8, 64, 8)]
            pairs = zip(verb.kinds, raw, strict=False)
            values = tuple(_decode_value(kind, value, table) for kind, value in pairs)
            operations.append(Operation(verb, values))
        return cls(operations)


def _decode_header(data: bytes) -> tuple[int, bytes]:
    if data[:8] != MAGIC or len(data) < HEADER_SIZE:
        raise PlanError("not a compiled plan", hint="make one with: viscum plan -o FILE …")
    version, count, size = (int.from_bytes(data[at : at + 4], "little") for at in (8, 12, 16))
    if version != VERSION:
        raise PlanError(
            f"the plan has format {version}, this Viscum reads {VERSION}", hint="compile it again"
        )
    if len(data) != HEADER_SIZE + count * RECORD_SIZE + size:
        raise PlanError("the plan is cut short or too long", hint="compile it again")
    return count, data[HEADER_SIZE + count * RECORD_SIZE :]


def _decode_value(kind: str, value: int, table: bytes) -> Value:
    if kind == "S":
        if value & PARAMETER_BIT:
            index = value & ~PARAMETER_BIT
            if index >= len(PARAMETERS):
                raise PlanError(f"unknown parameter {index}")
            return "{" + PARAMETERS[index] + "}"
        end = table.find(b"\0", value)
        if end < 0:
            raise PlanError(f"a string at {value} is outside of the table")
        return table[value:end].decode("utf-8", "surrogateescape")
    if kind in "BNL":
        offset, length = value >> 32, value & 0xFFFFFFFF
        if offset + length >= len(table):
            raise PlanError(f"bytes at {offset} are outside of the table")
        blob = table[offset : offset + length]
        if kind != "L":
            return blob
        return tuple(int.from_bytes(blob[at : at + 2], "little") for at in range(0, length, 2))
    return value
