# SPDX-License-Identifier: Apache-2.0
"""CRIU, as far as checkpoint and restore need it: found, asked, and understood when it says no.

    options (typed) ──▶ rpc (fields and their numbers) ──protobuf──▶ bytes ──service──▶ `criu swrk 3`

It is spoken to by its RPC and not by its command line, because what matters comes as questions meanwhile: which process
it has made and when its namespaces are there, the main side of a terminal as a descriptor, and that it may still be
told no before anything has run.  Neither `protobuf` nor libcriu is needed for that: the messages are a few dozen
fields, and both would tie us to the version that they were generated with.
"""
