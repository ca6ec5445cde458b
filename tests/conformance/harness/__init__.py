# SPDX-License-Identifier: Apache-2.0
"""What a case is, what it is given, and what runs it.  Standard library only; nothing here knows any one runtime."""
