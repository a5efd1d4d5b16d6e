"""What confines a machine: capabilities, seccomp, Landlock, id maps, masked paths."""
