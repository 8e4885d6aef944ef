//! Buffers that sessions need only while something passes: thousands of idle
//! ones share a few. Each thread keeps its own.

use std::cell::RefCell;

/// Bytes read from a socket at once, at most.
pub const READ: usize = 48 * 1024;

/// The largest buffer for sending that is kept, in bytes.
const KEPT: usize = 128 * 1024;

/// Buffers of each kind that one thread keeps.
const MOST: usize = 16;

thread_local! {
    static READING: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static WRITING: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`READ`] bytes; what is in it is anyone's.
pub fn reading() -> Box<[u8]> {
    READING.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; READ].into_boxed_slice())
}

/// Gives it back. One of another size is not kept.
pub fn read(buffer: Box<[u8]>) {
    READING.with_borrow_mut(|kept| {
        if kept.len() < MOST && buffer.len() == READ {
            kept.push(buffer);
        }
    });
}

/// An empty buffer, with or without capacity.
pub fn writing() -> Vec<u8> {
    WRITING.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives it back.
pub fn written(mut buffer: Vec<u8>) {
    buffer.clear();
    if (1..=KEPT).contains(&buffer.capacity()) {
        WRITING.with_borrow_mut(|kept| {
            if kept.len() < MOST {
                kept.push(buffer);
            }
        });
    }
}
