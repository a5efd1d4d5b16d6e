"""Parts of a spec that become cgroup operations and usage."""
