"""libnftables in this process: each call is one transaction."""

from __future__ import annotations

import ctypes
from functools import cache

from fleet.errors import MissingProgram

JSON = 1 << 4
"""NFT_CTX_OUTPUT_JSON (nftables/libnftables.h)."""


class NftError(Exception):
    """libnftables refused a document; has the library's message."""


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise MissingProgram(f"libnftables cannot be loaded: {error}", hint="apt-get install libnftables1") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.nft_ctx_free.restype = None
    library.nft_ctx_get_output_buffer.argtypes = [ctypes.c_void_p]
    library.nft_ctx_get_error_buffer.argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


class Context:
    """One context with its own netlink socket; for one thread at a time."""

    def __init__(self) -> None:
        library = _library()
        self._context = ctypes.c_void_p(library.nft_ctx_new(0))
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)
        library.nft_ctx_output_set_flags(self._context, JSON)

    def run(self, commands: str) -> str:
        """Run COMMANDS (nft syntax or its JSON) as one transaction: all or none. Returns the output as JSON.

        Raises NftError.
        """
        library = _library()
        failed = library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = library.nft_ctx_get_output_buffer(self._context)
        error = library.nft_ctx_get_error_buffer(self._context)
        if failed:
            raise NftError(error.decode(errors="replace").strip()[:500])
        return str(output.decode())

    def close(self) -> None:
        """Close the socket: the kernel deletes the tables that it owns. Waits for an RCU grace period, 5-18 ms."""
        context, self._context = self._context, ctypes.c_void_p()
        if context:
            _library().nft_ctx_free(context)
