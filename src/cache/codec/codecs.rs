//! Compressing and decompressing: the check of stored bytes, and the contexts and the buffer that are reused.

use std::fmt;

use super::codec;
use super::interface::{CodecError, CodecId, Context};

/// Whether these stored bytes can be a value of `raw_len` bytes. It allocates nothing and reads only headers, so
/// entries from outside are checked with it too. It does not find every damage; decompressing does.
pub fn check(id: CodecId, stored: &[u8], raw_len: usize) -> Result<(), CodecError> {
    let codec = codec(id);
    if raw_len > codec.max_raw_len(stored.len()) {
        return Err(CodecError::Implausible { codec: id, raw_len, stored_len: stored.len() });
    }
    let declared = codec.declared_len(stored)?;
    if declared != raw_len as u64 {
        return Err(CodecError::Length { codec: id, declared, raw_len });
    }
    Ok(())
}

/// The length that stored bytes declare, without decompressing.
///
/// # Errors
/// When they do not look like one whole value of the codec.
pub fn declared_len(id: CodecId, stored: &[u8]) -> Result<u64, CodecError> {
    codec(id).declared_len(stored)
}

/// Whether the compressed form is kept: it must save at least this fraction of the value's bytes, and at least one
/// byte, because every read of it costs time.
pub fn worth_keeping(raw_len: usize, stored_len: usize, min_savings: f64) -> bool {
    stored_len < raw_len && (raw_len - stored_len) as f64 >= raw_len as f64 * min_savings
}

/// One set of contexts and the buffer for results, reused for every value. The main thread has one, and each worker.
#[derive(Default)]
pub struct Codecs {
    pub(super) contexts: [Option<Box<dyn Context>>; CodecId::ALL.len()],
    buffer: Buffer,
}

impl Codecs {
    /// An empty set: its parts are created at first use.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses a value, at the level of the codec that is nearest to `level`. The result lies in this set's buffer
    /// until the next call; with [`CodecId::None`] it is `raw` itself.
    pub fn compress<'a>(&'a mut self, id: CodecId, level: i32, raw: &'a [u8]) -> Result<&'a [u8], CodecError> {
        let codec = codec(id);
        let Some(context) = context(&mut self.contexts, id) else { return Ok(raw) };
        let levels = codec.levels();
        let out = self.buffer.room(codec.max_stored_len(raw.len()));
        let stored_len = context.compress(raw, level.clamp(*levels.start(), *levels.end()), out)?;
        Ok(&out[..stored_len])
    }

    /// Decompresses a value: exactly `raw_len` bytes, or an error, whatever the stored bytes are. The result lies in
    /// this set's buffer until the next call; with [`CodecId::None`] it is `stored` itself.
    pub fn decompress<'a>(&'a mut self, id: CodecId, stored: &'a [u8], raw_len: usize) -> Result<&'a [u8], CodecError> {
        check(id, stored, raw_len)?;
        let Some(context) = context(&mut self.contexts, id) else { return Ok(stored) };
        let out = self.buffer.room(raw_len);
        context.decompress(stored, out)?;
        Ok(out)
    }

    /// Frees memory that only unusual values need. Under traffic that happens by itself; this is for a worker that may
    /// idle after a large value.
    pub fn trim(&mut self) {
        self.buffer.trim();
        self.contexts.iter_mut().flatten().for_each(|context| context.trim());
    }

    /// The present size of the buffer.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer.bytes.len()
    }
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codecs").field("buffer_bytes", &self.buffer_bytes()).finish_non_exhaustive()
    }
}

/// The codec's context, created at first use. (It takes the array alone, so that the buffer can be borrowed beside it.)
fn context(contexts: &mut [Option<Box<dyn Context>>; CodecId::ALL.len()], id: CodecId) -> Option<&mut dyn Context> {
    let slot = &mut contexts[id as usize];
    if slot.is_none() {
        *slot = codec(id).context();
    }
    Some(slot.as_mut()?.as_mut())
}

/// A buffer that is reused.
///
/// Its bytes are always initialised and only lent as a slice, so that making room costs nothing, not even zeroing, once
/// it has its size. A buffer beyond [`Buffer::KEPT`] is freed when it was more than four times too large for
/// [`Buffer::PATIENCE`] uses in a row.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Uses in a row for which it was far too large.
    small_uses: u32,
}

impl Buffer {
    /// A buffer of this size is never freed.
    const KEPT: usize = 1 << 20;
    /// Uses in a row for which a buffer may be far too large.
    const PATIENCE: u32 = 64;

    /// A slice of this length, with arbitrary content.
    fn room(&mut self, len: usize) -> &mut [u8] {
        if len >= self.bytes.len() / 4 {
            self.small_uses = 0;
        } else if self.bytes.len() > Self::KEPT {
            self.small_uses += 1;
            if self.small_uses >= Self::PATIENCE {
                self.trim();
            }
        }
        if self.bytes.len() < len {
            // Freed first, because its content need not be copied.
            self.bytes = Vec::new();
            let rounded = if len < Self::KEPT { len.next_power_of_two() } else { len };
            self.bytes = vec![0; rounded];
        }
        &mut self.bytes[..len]
    }

    /// Frees a buffer that is larger than what is always kept.
    fn trim(&mut self) {
        if self.bytes.len() > Self::KEPT {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_codec_returns_its_argument() {
        let mut codecs = Codecs::new();
        let value = b"plain".to_vec();
        assert_eq!(codecs.compress(CodecId::None, 3, &value).unwrap().as_ptr(), value.as_ptr());
        assert_eq!(codecs.decompress(CodecId::None, &value, 5).unwrap().as_ptr(), value.as_ptr());
        assert_eq!(codecs.buffer_bytes(), 0);
    }

    #[test]
    fn a_buffer_for_one_large_value_is_freed_after_a_while() {
        let mut buffer = Buffer::default();
        buffer.room(5 << 20);
        for _ in 1..Buffer::PATIENCE {
            buffer.room(100);
            assert_eq!(buffer.bytes.len(), 5 << 20);
        }
        buffer.room(100);
        assert_eq!(buffer.bytes.len(), 128);
    }

    #[test]
    fn a_huge_buffer_shrinks_to_values_that_are_merely_large() {
        let mut buffer = Buffer::default();
        buffer.room(50 << 20);
        for _ in 0..Buffer::PATIENCE {
            buffer.room(2 << 20);
        }
        assert_eq!(buffer.bytes.len(), 2 << 20);
    }

    #[test]
    fn a_buffer_stays_large_while_large_values_come() {
        let mut buffer = Buffer::default();
        let start = buffer.room(5 << 20).as_ptr();
        for turn in 0..10 * Buffer::PATIENCE {
            let len = if turn % 50 == 0 { 4 << 20 } else { 100 };
            assert_eq!(buffer.room(len).as_ptr(), start);
        }
    }

    #[test]
    fn trimming_frees_only_unusual_sizes() {
        let mut buffer = Buffer::default();
        buffer.room(Buffer::KEPT);
        buffer.trim();
        assert_eq!(buffer.bytes.len(), Buffer::KEPT);
        buffer.room(Buffer::KEPT + 1);
        buffer.trim();
        assert_eq!(buffer.bytes.len(), 0);
    }

    #[test]
    fn a_compressed_form_is_kept_if_it_saves_enough() {
        assert!(worth_keeping(100, 80, 0.2));
        assert!(!worth_keeping(100, 81, 0.2));
        assert!(worth_keeping(100, 99, 0.0));
        assert!(!worth_keeping(100, 100, 0.0), "the same size saves nothing and costs time");
        assert!(!worth_keeping(100, 101, 0.0));
        assert!(!worth_keeping(0, 0, 0.0));
        assert!(!worth_keeping(100, 1, 1.0));
        assert!(!worth_keeping(100, 1, f64::NAN));
    }
}
