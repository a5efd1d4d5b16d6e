"""What Debian 12's runc 1.1.5 and crun 1.8.1 do not pass on a host with control groups of version 1.

Each is expected to fail with them, and only with them. Found by running the suite on both.
"""

from __future__ import annotations

LACKS: dict[str, dict[str, str]] = {
    "runc": {
        "test_exec_runs_on_the_cpus_that_are_given": "knows no CPU affinity of exec",
        "test_exec_starts_on_the_cpus_that_are_given": "knows no CPU affinity of exec",
        "test_exec_refuses_cpus_that_are_not_there": "knows no CPU affinity of exec",
        "test_exec_reads_a_process": "exec takes no umask",
        "test_hooks_run_in_their_order": "poststart hooks run before `start`, with `create`",
        "test_hooks_get_the_state[poststart]": "poststart hooks run while it is created",
        "test_maps_need_a_user_namespace": "they are ignored",
        "test_time_offsets": "knows no time namespace",
        "test_time_namespace_by_path_and_of_exec": "knows no time namespace",
        "test_personality": "knows no personality",
        "test_root_propagation[shared-shared:]": "a shared root stays private",
        "test_idmapped_mount": "knows no maps of a mount",
        "test_rlimit_given_twice_is_refused": "the last one counts",
        "test_scheduler": "knows no scheduler",
        "test_io_priority": "knows no ioPriority",
        "test_domain_name": "knows no domainname",
        "test_another_major_version_is_refused": "accepts every version",
    },
    "crun": {
        "test_exec_runs_on_the_cpus_that_are_given": "knows no CPU affinity of exec",
        "test_exec_starts_on_the_cpus_that_are_given": "knows no CPU affinity of exec",
        "test_exec_refuses_cpus_that_are_not_there": "knows no CPU affinity of exec",
        "test_exec_has_the_containers_environment_and_more": "--env replaces the environment",
        "test_create_refuses_an_id_that_is_no_name[a b]": "accepts spaces",
        "test_features_are_told": "has no such verb",
        "test_kill_refuses_a_signal_that_there_is_not": "succeeds",
        "test_events_print_usage": "prints nothing",
        "test_limits[resources10-pids-pids.max-max]": "fails to write -1",
        "test_namespace_asked_for_twice_is_refused": "accepts it",
        "test_maps_need_a_user_namespace": "they are ignored",
        "test_time_offsets": "fails to write them on this kernel",
        "test_time_namespace_by_path_and_of_exec": "fails to write offsets on this kernel",
        "test_tmpfs_copies_what_it_covers": "the folder's mode is lost",
        "test_control_groups_are_the_containers_own": "the folder above them can be written to",
        "test_propagation[rslave-master:]": "becomes private",
        "test_command_that_may_not_run_is_refused": "is found out by start only",
        "test_working_folder_must_be_absolute": "accepts it",
        "test_rlimit_given_twice_is_refused": "the last one counts",
        "test_console_socket_needs_a_terminal": "ignores the socket",
        "test_process_is_needed": "fails with an error of its own making",
        "test_scheduler": "knows no scheduler",
        "test_io_priority": "knows no ioPriority",
        "test_seccomp_listener_is_handed_over": "sends nothing in this arrangement",
    },
}
