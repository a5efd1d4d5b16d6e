"""`viscum oci runtimeclass`: what Kubernetes has to know of the handler."""

from __future__ import annotations

__all__ = ["main"]

MANIFEST = """\
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata:
  name: viscum
handler: viscum
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed


def main(parsed: Parsed) -> int:
    """Print a RuntimeClass manifest, for `kubectl apply -f -`."""
    del parsed
    print(MANIFEST, end="")
    return 0
