"""Commands about the OCI runtime, for those who run engines and clusters."""

from __future__ import annotations

from ..parser import HELP, Command, Option

__all__ = ["COMMANDS"]

_OPTIONS = (
    Option("--containerd", "", "containerd, for Kubernetes and nerdctl"),
    Option("--crio", "", "CRI-O"),
    Option("--podman", "", "Podman and Buildah"),
    Option("--docker", "", "Docker"),
    Option("--root", "FOLDER", "where the host's files are, by default /"),
    Option("-n --dry-run", "", "show what would change, and change nothing"),
    Option("-y --yes", "", "do not ask"),
    HELP,
)

COMMANDS = (
    Command(
        "oci install",
        "oci.install",
        "[OPTIONS]",
        "tell container engines of viscum-oci, by default those of this host",
        _OPTIONS,
    ),
    Command(
        "oci uninstall",
        "oci.uninstall",
        "[OPTIONS]",
        "have container engines forget viscum-oci",
        _OPTIONS,
    ),
    Command(
        "oci runtimeclass",
        "oci.runtime_class",
        "",
        "print a RuntimeClass manifest for Kubernetes",
        (HELP,),
    ),
)
