# SPDX-License-Identifier: Apache-2.0
"""What Debian's crun 1.8.1 does otherwise than the kernel tests want, by the name of the test.

runc is the first yardstick: what it lacks is said beside each test, with the marker peer_fails.  crun
differs in more places, so its list is here.  A name with "[" means one case, without it all of them.
"""

from __future__ import annotations

CRUN_FAILS = {
    "test_bundles.py::test_time": "does not know specification 1.1 and later",
    "test_bundles.py::test_mounts": "does not know specification 1.1 and later",
    "test_process.py::test_cwd_must_be_absolute": "a relative cwd is taken",
    "test_process.py::test_program_that_cannot_run_is_reported_by_create[nosuchprogram": (
        "other words: executable file `x` not found in $PATH"
    ),
    "test_process.py::test_oom_score_adj_out_of_range[5]": "a string is taken for a number",
    "test_process.py::test_ids_out_of_range": "not all numbers out of range are refused",
    "test_process.py::test_scheduler": "has no process.scheduler",
    "test_process.py::test_label_without_its_module[selinuxLabel": "the error does not say SELinux",
    "test_process.py::test_create_without_process": "fails for want of capabilities",
    "test_namespaces.py::test_time_offsets": "cannot set the offsets on this kernel",
    "test_namespaces.py::test_time_offsets_need": "ignores offsets without a time namespace",
    "test_namespaces.py::test_join_time_namespace": "cannot join a time namespace",
    "test_namespaces.py::test_namespace_twice": "the last of two wins",
    "test_namespaces.py::test_mappings_need_a_user_namespace": "ignores the mappings",
    "test_namespaces.py::test_impossible_mappings[[]]": "no mapping means one of its own choice",
    "test_mounts.py::test_options_that_must_be_understood": "ro,rw and nosuid,suid: the first wins",
    "test_mounts.py::test_recursive_options": "rnoatime is EINVAL",
    "test_mounts.py::test_recursive_options_win": "recursive options have no effect on the top",
    "test_mounts.py::test_bind_keeps_the_flags_of_its_source": "a bind drops nosuid, nodev, noexec",
    "test_mounts.py::test_propagation_options": "shared has no effect on a bind mount",
    "test_mounts.py::test_filesystem_that_cannot_be": "the error names `mm`, not /mm",
    "test_mounts.py::test_nothing_else_below_proc": "CVE-2019-16884 is checked with an LSM only",
    "test_mounts.py::test_proc_must_be_procfs": "CVE-2019-16884 is checked with an LSM only",
    "test_mounts.py::test_destinations_stay_inside_the_root": "a dangling link is ENOENT",
    "test_mounts.py::test_made_directories_do_not_depend": "makes directories with the caller's umask",
    "test_mounts.py::test_many_mounts": "holds one descriptor for each mount",
    "test_rootfs.py::test_rootfs_propagation[slave": "leaves the root mount private",
    "test_rootfs.py::test_rootfs_propagation_leaves": "rshared and the like undo what mounts ask for",
    "test_rootfs.py::test_rootfs_propagation_unknown": "an unknown word is ignored",
    "test_rootfs.py::test_host_mounts_propagate_into_a_slave": "leaves the root mount private",
    "test_devices.py::test_configured_devices[False]": "the change of owner takes the set-id bits away",
    "test_devices.py::test_dev_is_a_link[absolute-False]": "CVE-2026-47766",
    "test_devices.py::test_dev_is_a_link[relative-False]": "CVE-2026-47766",
    "test_masked_paths.py::test_many_masks": "holds one descriptor for each mask",
    "test_masked_paths.py::test_readonly_paths": "drops nosuid, nodev, noexec of the mount",
    "test_sysctl.py::test_the_hosts_namespace_by_path": "a path to the host's namespace counts as own",
    "test_sysctl.py::test_overmounted_proc_sys": "CVE-2025-52881: writes to what covers /proc/sys",
    "test_hooks.py::test_namespaces": "prestart hooks run in a mount namespace of their own",
    "test_hooks.py::test_fatal_hooks": "poststop hooks do not run after a failed create",
    "test_hooks.py::test_timeout": "poststop hooks do not run after a failed create",
    "test_lifecycle.py::test_kill_refuses_what_is_no_signal": "an unknown name is signal 0",
    "test_descriptors.py::test_socket_activation": "does not set LISTEN_PID",
    "test_lifecycle.py::test_pid_file_does_not_follow": "the pid file is written through links",
    "test_descriptors.py::test_cwd_through": "CVE-2024-21626",
    "test_descriptors.py::test_dev_null_is_never_given_away": "changes the owner of /dev/null",
    "test_descriptors.py::test_owner_of_stdio": "changes the group as well",
    "test_keyring.py::test_own_session_keyring": "the keyring is named after the ID alone",
    "test_cgroups.py::test_unified_needs_version_2": "ignored on version 1",
    "test_cgroups.py::test_nul_in_path": "cuts the path at the NUL",
    "test_state_root.py::test_ids_that_are_taken[.a]": "a keyring's name may not begin with a dot",
    "test_state_root.py::test_state_root_that_cannot_be_written": "leaves the container's directory",
    "test_hostile_config.py::test_bad_types_everywhere": "numbers are taken for strings",
}
# These fail and leave something behind, which would be the next test's failure.
CRUN_LEAKS = {
    "test_mounts.py::test_destination_that_cannot_be[long-path]": "makes the directories all the same",
    "test_cgroups.py::test_limits_that_cannot_be": "leaves its cgroups after a refused limit",
    "test_cgroups.py::test_unlimited": "pids.limit -1 is EINVAL, and the cgroups stay",
}


def crun_reason(node_id: str, table: dict[str, str]) -> str | None:
    """Return why crun fails the test of this ID, or None."""
    for name, reason in table.items():
        if name in node_id:
            return reason
    return None
