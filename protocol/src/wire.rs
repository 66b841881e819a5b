//! Cursor types for big-endian fields. Everything here answers an error where a
//! slice index would panic.

use crate::error::{Error, FieldName};

/// Reads fields off the front of a slice; running out is [`Error::Length`].
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Error::Length)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array_ref<const N: usize>(&mut self) -> Result<&'a [u8; N], Error> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Error::Length)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.array_ref().copied()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Consumes `N` bytes that must be zero.
    pub(crate) fn zeros<const N: usize>(&mut self) -> Result<(), Error> {
        if self.array::<N>()? == [0; N] { Ok(()) } else { Err(Error::Field(FieldName::Reserved)) }
    }

    /// Everything that is left.
    pub(crate) const fn rest(&mut self) -> &'a [u8] {
        let rest = self.0;
        self.0 = &[];
        rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Exact lengths: anything left over is an error.
    pub(crate) const fn finish(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Length) }
    }
}

/// Writes fields to the front of a caller's buffer.
pub(crate) struct Writer<'a> {
    buf: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, at: 0 }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let end = self.at.checked_add(bytes.len()).ok_or(Error::BufferTooSmall)?;
        self.buf.get_mut(self.at..end).ok_or(Error::BufferTooSmall)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }

    pub(crate) fn fill(&mut self, byte: u8, len: usize) -> Result<(), Error> {
        let end = self.at.checked_add(len).ok_or(Error::BufferTooSmall)?;
        self.buf.get_mut(self.at..end).ok_or(Error::BufferTooSmall)?.fill(byte);
        self.at = end;
        Ok(())
    }

    pub(crate) const fn len(&self) -> usize {
        self.at
    }

    /// The whole buffer, for fields that are known only at the end.
    pub(crate) fn finish_mut(self) -> &'a mut [u8] {
        self.buf
    }

    pub(crate) fn written(&self) -> &[u8] {
        self.buf.get(..self.at).unwrap_or(&[])
    }
}
