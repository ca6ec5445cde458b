# SPDX-License-Identifier: Apache-2.0
"""The messages of CRIU's RPC: of its requests and answers the fields that we use.

Spec: criu, images/rpc.proto
"""

from __future__ import annotations

from ocirun.criu.protobuf import BOOLEAN, INTEGER, TEXT

# What is asked, and what an answer is to.
DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10

#: --manage-cgroups-mode
CGROUP_MODES = {"ignore": 0, "soft": 3, "full": 4, "strict": 5}
#: --network-lock
NETWORK_LOCKS = {"iptables": 1, "nftables": 2, "skip": 3}
#: --empty-ns, as the bits of clone(2)
EMPTY_NETWORK = 0x40000000

_PAGE_SERVER = {"address": (1, TEXT), "port": (2, INTEGER)}
_EXTERNAL_MOUNT = {"key": (1, TEXT), "val": (2, TEXT)}
_CGROUP_ROOT = {"ctrl": (1, TEXT), "path": (2, TEXT)}
_INHERITED = {"key": (1, TEXT), "fd": (2, INTEGER)}
_JOINED = {"ns": (1, TEXT), "ns_file": (2, TEXT)}

OPTIONS = {
    "images_dir_fd": (1, INTEGER),  # of our process: CRIU opens it by /proc
    "pid": (2, INTEGER),
    "leave_running": (3, BOOLEAN),
    "ext_unix_sk": (4, BOOLEAN),
    "tcp_established": (5, BOOLEAN),
    "evasive_devices": (6, BOOLEAN),
    "shell_job": (7, BOOLEAN),
    "file_locks": (8, BOOLEAN),
    "log_level": (9, INTEGER),
    "log_file": (10, TEXT),
    "ps": (11, _PAGE_SERVER),
    "notify_scripts": (12, BOOLEAN),
    "root": (13, TEXT),
    "parent_img": (14, TEXT),
    "track_mem": (15, BOOLEAN),
    "auto_dedup": (16, BOOLEAN),
    "work_dir_fd": (17, INTEGER),
    "link_remap": (18, BOOLEAN),
    "ext_mnt": (23, _EXTERNAL_MOUNT),
    "manage_cgroups": (24, BOOLEAN),
    "cg_root": (25, _CGROUP_ROOT),
    "rst_sibling": (26, BOOLEAN),
    "inherit_fd": (27, _INHERITED),
    "manage_cgroups_mode": (34, INTEGER),
    "external": (37, TEXT),
    "empty_ns": (38, INTEGER),
    "join_ns": (39, _JOINED),
    "freeze_cgroup": (44, TEXT),
    "tcp_skip_in_flight": (46, BOOLEAN),
    "lazy_pages": (48, BOOLEAN),
    "orphan_pts_master": (50, BOOLEAN),
    "config_file": (51, TEXT),
    "tcp_close": (52, BOOLEAN),
    "lsm_profile": (53, TEXT),
    "lsm_mount_context": (63, TEXT),
    "network_lock": (64, INTEGER),
}
FEATURES = {"mem_track": (1, BOOLEAN), "lazy_pages": (2, BOOLEAN)}
REQUEST = {
    "type": (1, INTEGER),
    "opts": (2, OPTIONS),
    "notify_success": (3, BOOLEAN),
    "keep_open": (4, BOOLEAN),
    "features": (5, FEATURES),
}
RESPONSE = {
    "type": (1, INTEGER),
    "success": (2, BOOLEAN),
    "restore": (4, {"pid": (1, INTEGER)}),
    "notify": (5, {"script": (1, TEXT), "pid": (2, INTEGER)}),
    "cr_errno": (7, INTEGER),
    "features": (8, FEATURES),
    "cr_errmsg": (9, TEXT),
    "version": (10, {"major_number": (1, INTEGER), "minor_number": (2, INTEGER), "sublevel": (4, INTEGER)}),
}
