"""What Viscum writes for other programs: units of systemd."""
