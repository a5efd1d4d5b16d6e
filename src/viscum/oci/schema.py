"""What config.json may hold, by the runtime specification 1.2 for Linux, as plain data.

A string is a simple type: "s" text, "b" boolean, "i32", "u16", "u32", "i64", "u64" numbers, "id" a
user's or a group's (that of all ones tells system calls to change nothing), "seconds" above zero,
"f" a number with or without a fraction. A list of one element is a list of that; {"*": x} maps
any name to x; other dictionaries are objects, a name that ends with "!" must be there.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Shape = str | list["Shape"] | dict[str, "Shape"]

__all__ = ["CONFIG", "PROCESS", "RESOURCES", "SECCOMP", "USER"]

_IDS: Shape = [{"containerID!": "u32", "hostID!": "u32", "size!": "u32"}]
_HOOKS: Shape = [{"path!": "s", "args": ["s"], "env": ["s"], "timeout": "seconds"}]

USER: Shape = {
    "uid": "id",
    "gid": "id",
    "umask": "u32",
    "additionalGids": ["id"],
    "username": "s",
}

PROCESS: Shape = {
    "terminal": "b",
    "consoleSize": {"height!": "u16", "width!": "u16"},
    "user": USER,
    "args": ["s"],
    "commandLine": "s",
    "env": ["s"],
    "cwd!": "s",
    "capabilities": {
        "bounding": ["s"],
        "effective": ["s"],
        "inheritable": ["s"],
        "permitted": ["s"],
        "ambient": ["s"],
    },
    "rlimits": [{"type!": "s", "hard!": "u64", "soft!": "u64"}],
    "noNewPrivileges": "b",
    "apparmorProfile": "s",
    "oomScoreAdj": "i32",
    "scheduler": {
        "policy!": "s",
        "nice": "i32",
        "priority": "i32",
        "flags": ["s"],
        "runtime": "u64",
        "deadline": "u64",
        "period": "u64",
    },
    "selinuxLabel": "s",
    "ioPriority": {"class!": "s", "priority": "i32"},
    "execCPUAffinity": {"initial": "s", "final": "s"},
}

_WEIGHT: Shape = {"major!": "i64", "minor!": "i64", "weight": "u16", "leafWeight": "u16"}
_RATE: Shape = [{"major!": "i64", "minor!": "i64", "rate!": "u64"}]

RESOURCES: Shape = {
    "devices": [{"allow!": "b", "type": "s", "major": "i64", "minor": "i64", "access": "s"}],
    "memory": {
        "limit": "i64",
        "reservation": "i64",
        "swap": "i64",
        "kernel": "i64",
        "kernelTCP": "i64",
        "swappiness": "u64",
        "disableOOMKiller": "b",
        "useHierarchy": "b",
        "checkBeforeUpdate": "b",
    },
    "cpu": {
        "shares": "u64",
        "quota": "i64",
        "burst": "u64",
        "period": "u64",
        "realtimeRuntime": "i64",
        "realtimePeriod": "u64",
        "cpus": "s",
        "mems": "s",
        "idle": "i64",
    },
    "pids": {"limit": "i64"},
    "blockIO": {
        "weight": "u16",
        "leafWeight": "u16",
        "weightDevice": [_WEIGHT],
        "throttleReadBpsDevice": _RATE,
        "throttleWriteBpsDevice": _RATE,
        "throttleReadIOPSDevice": _RATE,
        "throttleWriteIOPSDevice": _RATE,
    },
    "hugepageLimits": [{"pageSize!": "s", "limit!": "u64"}],
    "network": {"classID": "u32", "priorities": [{"name!": "s", "priority!": "u32"}]},
    "rdma": {"*": {"hcaHandles": "u32", "hcaObjects": "u32"}},
    "unified": {"*": "s"},
}

SECCOMP: Shape = {
    "defaultAction!": "s",
    "defaultErrnoRet": "u32",
    "architectures": ["s"],
    "flags": ["s"],
    "listenerPath": "s",
    "listenerMetadata": "s",
    "syscalls": [
        {
            "names!": ["s"],
            "action!": "s",
            "errnoRet": "u32",
            "args": [{"index!": "u32", "value!": "u64", "valueTwo": "u64", "op!": "s"}],
        }
    ],
}

_LINUX: Shape = {
    "namespaces": [{"type!": "s", "path": "s"}],
    "uidMappings": _IDS,
    "gidMappings": _IDS,
    "timeOffsets": {"*": {"secs": "i64", "nanosecs": "u32"}},
    "devices": [
        {
            "type!": "s",
            "path!": "s",
            "major": "i64",
            "minor": "i64",
            "fileMode": "u32",
            "uid": "id",
            "gid": "id",
        }
    ],
    "cgroupsPath": "s",
    "rootfsPropagation": "s",
    "resources": RESOURCES,
    "sysctl": {"*": "s"},
    "seccomp": SECCOMP,
    "maskedPaths": ["s"],
    "readonlyPaths": ["s"],
    "mountLabel": "s",
    "intelRdt": {
        "closID": "s",
        "l3CacheSchema": "s",
        "memBwSchema": "s",
        "enableCMT": "b",
        "enableMBM": "b",
    },
    "personality": {"domain!": "s", "flags": ["s"]},
}

CONFIG: Shape = {
    "ociVersion!": "s",
    "process": PROCESS,
    "root!": {"path!": "s", "readonly": "b"},
    "hostname": "s",
    "domainname": "s",
    "mounts": [
        {
            "destination!": "s",
            "source": "s",
            "options": ["s"],
            "type": "s",
            "uidMappings": _IDS,
            "gidMappings": _IDS,
        }
    ],
    "hooks": {
        "prestart": _HOOKS,
        "createRuntime": _HOOKS,
        "createContainer": _HOOKS,
        "startContainer": _HOOKS,
        "poststart": _HOOKS,
        "poststop": _HOOKS,
    },
    "annotations": {"*": "s"},
    "linux": _LINUX,
}
