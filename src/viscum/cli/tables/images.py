"""Commands about images, and the options of those that talk to registries."""

from __future__ import annotations

from ..parser import HELP, Command, Option
from .volumes import FILTER, FORCE, FORMAT, NO_TRUNC, QUIET

__all__ = ["COMMANDS", "IMAGE", "REGISTRY"]

REGISTRY = (
    Option("--tls-verify", "", "ask for TLS and a known certificate; =false does not"),
    Option("--creds", "USER:PASSWORD", "credentials, instead of those of login"),
    Option("--authfile", "FILE", "where credentials are kept"),
    Option("--cert-dir", "FOLDER", "certificates (*.crt, *.cert, *.key) for the registry"),
)
PLATFORM = Option("--platform", "OS/ARCHITECTURE", "another platform than this host's")
STORAGE = Option("--storage", "erofs|overlay", "keep it as one EROFS file, or as folders")
IMAGE = (
    Option("--image", "IMAGE", "the image that the machine's root is made of"),
    Option("--pull", "always|missing|never|newer", "when to ask the registry (missing)"),
    PLATFORM,
    STORAGE,
    *REGISTRY,
)
"""Options of `run` about its image."""
NO_BARS = Option("-q --quiet", "", "tell nothing of the progress")

COMMANDS = (
    Command(
        "pull",
        "images.pull",
        "[OPTIONS] IMAGE…",
        "take images into the store",
        (PLATFORM, STORAGE, *REGISTRY, NO_BARS, HELP),
    ),
    Command(
        "push",
        "images.push",
        "[OPTIONS] IMAGE [DESTINATION]",
        "put an image into a registry",
        (*REGISTRY, NO_BARS, HELP),
    ),
    Command(
        "images",
        "images.ls",
        "[OPTIONS] [PART]",
        "list images",
        (FILTER, FORMAT, QUIET, NO_TRUNC, HELP),
    ),
    Command("tag", "images.tag", "IMAGE NEW…", "give an image more names", (HELP,)),
    Command(
        "rmi",
        "images.rmi",
        "[OPTIONS] IMAGE…",
        "remove images",
        (Option("-f --force", "", "with all of its names"), HELP),
    ),
    Command(
        "save",
        "images.save",
        "[OPTIONS] IMAGE…",
        "write images as an archive or a folder",
        (
            Option("-o --output", "PATH", "where to; standard output by default"),
            Option("--format", "docker-archive|oci-archive|oci|dir", "what to write"),
            HELP,
        ),
    ),
    Command(
        "load",
        "images.load",
        "[OPTIONS]",
        "take the images of an archive into the store",
        (
            Option("-i --input", "FILE", "archive or layout; standard input by default"),
            STORAGE,
            NO_BARS,
            HELP,
        ),
    ),
    Command(
        "import",
        "images.import_",
        "[OPTIONS] FILE|- [REFERENCE]",
        "make an image of an archive of a root",
        (
            Option("-c --change", "INSTRUCTION", "CMD, ENTRYPOINT, ENV, USER…", repeats=True),
            Option("-m --message", "TEXT", "a comment for its history"),
            HELP,
        ),
    ),
    Command(
        "commit",
        "images.commit",
        "[OPTIONS] MACHINE [REFERENCE]",
        "make an image of what a machine changed",
        (
            Option("-c --change", "INSTRUCTION", "CMD, ENTRYPOINT, ENV, USER…", repeats=True),
            Option("-m --message", "TEXT", "a comment for its history"),
            HELP,
        ),
    ),
    Command(
        "history",
        "images.history",
        "[OPTIONS] IMAGE",
        "tell how an image was made",
        (FORMAT, NO_TRUNC, HELP),
    ),
    Command(
        "login",
        "images.login",
        "[OPTIONS] REGISTRY",
        "keep a password for a registry",
        (
            Option("-u --username", "USER", "who logs in"),
            Option("-p --password", "PASSWORD", "better: --password-stdin"),
            Option("--password-stdin", "", "read the password from standard input"),
            *REGISTRY,
            HELP,
        ),
    ),
    Command(
        "logout",
        "images.logout",
        "[OPTIONS] [REGISTRY]",
        "forget a password",
        (
            Option("-a --all", "", "every one"),
            Option("--authfile", "FILE", "where credentials are kept"),
            HELP,
        ),
    ),
    Command(
        "gc",
        "images.gc",
        "[OPTIONS]",
        "remove blobs and layers that nothing needs",
        (Option("-a --all", "", "also what came within the last hour"), HELP),
    ),
    Command(
        "image inspect",
        "images.inspect",
        "[OPTIONS] IMAGE…",
        "print all that is known of images",
        (FORMAT, HELP),
    ),
    Command(
        "image prune",
        "images.prune",
        "[OPTIONS]",
        "remove images without a name",
        (Option("-a --all", "", "all that no machine has"), FORCE, HELP),
    ),
    Command(
        "image mount",
        "images.mount",
        "[IMAGE [FOLDER]]",
        "show the root of an image in a folder",
        (HELP,),
    ),
    Command(
        "image unmount",
        "images.unmount",
        "IMAGE|FOLDER…",
        "take away what image mount shows",
        (HELP,),
    ),
    Command(
        "store show",
        "images.store",
        "[OPTIONS]",
        "tell what the store takes and may take",
        (FORMAT, HELP),
    ),
    Command(
        "store set",
        "images.store_set",
        "[OPTIONS]",
        "bound the store, or choose how it keeps images",
        (
            Option("--quota", "SIZE|none", "bytes that it may hold, such as 20g"),
            Option("--over-quota", "fail|gc|evict", "what a pull does that would exceed it (fail)"),
            Option("--storage", "erofs|overlay|auto", "how new images are kept (auto)"),
            HELP,
        ),
    ),
    Command(
        "store check",
        "images.check",
        "[OPTIONS]",
        "compare what the store holds with its digests",
        (Option("--repair", "", "remove what is damaged"), HELP),
    ),
)
