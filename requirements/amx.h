/* Included before every C++ file of llama.cpp that is compiled for a processor with AMX (-include, install.py).
 *
 * gcc's intrinsics do not say what AMX instructions read: `_tile_loadconfig` of older ones (Debian 12's 12.2) names 8 of the
 * 64 bytes, `_tile_loadd` none at all, in 2024's gcc still. The compiler may drop the stores before them, and Debian's
 * does: the tiles are set up from memory that nobody wrote, and the first step dies with SIGILL; or sums are wrong. Here
 * both say that all of it is read. clang has intrinsics of its own and is left alone. */
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

/* Whatever `memory` points to has to be there now: it is handed out, and everything handed out may be read. */
static inline void frontdesk_is_read(const void *memory) { __asm__ volatile("" : : "r"(memory) : "memory"); }

#define _tile_loadconfig(config) (frontdesk_is_read(config), (_tile_loadconfig)(config))

#ifdef _tile_loadd_internal
#undef _tile_loadd
#define _tile_loadd(tile, base, stride)            \
    do {                                           \
        frontdesk_is_read(base);                   \
        _tile_loadd_internal(tile, base, stride);  \
    } while (0)
#endif
#endif
