//! The allocator: the server's when we live in one, so that `used_memory` and `maxmemory` see our bytes; the
//! system's elsewhere, so that plain `cargo test` works.
//!
//! Nothing in this crate allocates before the server has handed over its functions (first line of `OnLoad`),
//! and they are never taken back: what one allocator gave, the other never frees.

use std::alloc::{GlobalAlloc, Layout, System};

use redis_module::raw;

/// What every server's allocator aligns all allocations to: the jemalloc that Redis brings along is built with a
/// quantum of 8, so that 24 or 56 bytes lie on multiples of 8 only. (Hash tables want 16: they are read with vector
/// instructions.)
const NATURAL_ALIGN: usize = 8;

/// The crate's global allocator.
pub(super) struct ServerAlloc;

#[global_allocator]
static ALLOCATOR: ServerAlloc = ServerAlloc;

// SAFETY: each branch hands the layout on to an allocator that keeps the contract: the system's as it is; the
// server's for natural alignment, which `zmalloc` guarantees; larger alignments get room to align within, and
// the pointer that the server knows is written right before the one that we hand out.
unsafe impl GlobalAlloc for ServerAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the server's function pointers are written once, at load, before any other use.
        let Some(alloc) = (unsafe { raw::RedisModule_Alloc }) else {
            // SAFETY: the caller's layout, unchanged.
            return unsafe { System.alloc(layout) };
        };
        if layout.align() <= NATURAL_ALIGN {
            // SAFETY: `RedisModule_Alloc` takes any size; it ends the server rather than return null.
            return unsafe { alloc(layout.size()) }.cast();
        }
        let room = layout.size() + layout.align() + size_of::<usize>();
        // SAFETY: as above; the aligned pointer and the word before it lie within `room`.
        unsafe {
            let start: *mut u8 = alloc(room).cast();
            let first = start.add(size_of::<usize>());
            let aligned = first.add(first.align_offset(layout.align()));
            aligned.cast::<usize>().sub(1).write_unaligned(start as usize);
            aligned
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        let Some(free) = (unsafe { raw::RedisModule_Free }) else {
            // SAFETY: `alloc` took it from the system with this layout.
            return unsafe { System.dealloc(ptr, layout) };
        };
        if layout.align() <= NATURAL_ALIGN {
            // SAFETY: `alloc` took it from the server.
            return unsafe { free(ptr.cast()) };
        }
        // SAFETY: `alloc` wrote the server's pointer right before this one.
        unsafe { free(ptr.cast::<usize>().sub(1).read_unaligned() as *mut _) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        match unsafe { raw::RedisModule_Calloc } {
            // SAFETY: as in `alloc`.
            Some(calloc) if layout.align() <= NATURAL_ALIGN => unsafe { calloc(1, layout.size()) }.cast(),
            _ => {
                // SAFETY: the caller's layout, unchanged; the bytes written are those just allocated.
                unsafe {
                    let ptr = self.alloc(layout);
                    if !ptr.is_null() {
                        ptr.write_bytes(0, layout.size());
                    }
                    ptr
                }
            }
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        match unsafe { raw::RedisModule_Realloc } {
            // SAFETY: `alloc` took it from the server.
            Some(realloc) if layout.align() <= NATURAL_ALIGN => unsafe { realloc(ptr.cast(), new_size) }.cast(),
            // SAFETY: `alloc` took it from the system with this layout.
            None => unsafe { System.realloc(ptr, layout, new_size) },
            // SAFETY: a new allocation of the same alignment, the old bytes copied, the old one freed.
            _ => unsafe {
                let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
                new.copy_from_nonoverlapping(ptr, layout.size().min(new_size));
                self.dealloc(ptr, layout);
                new
            },
        }
    }
}
