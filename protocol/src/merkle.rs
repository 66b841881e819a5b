//! The block tree of a firmware image (PROTOCOL §6).
//!
//! ```text
//! c    = H(0x00 ‖ block of 1,024 bytes; the last one unpadded)
//! G_g  = H(0x01 ‖ u32 g ‖ u8 n ‖ c…)          32 blocks a group, g from 0
//! root = H(0x02 ‖ u64 len ‖ u32 1024 ‖ u32 number_of_groups ‖ G…)
//! ```
//! A block is checked on arrival against its group's 32 hashes, a group against
//! the list of groups, the list against the signed root: three levels, no path
//! longer than one group, and a block's hash depends on its content only, so a
//! delta may take any local block with an equal hash.

use sha2::{Digest, Sha256};

use crate::crypto::{self, Hash};
use crate::error::Error;

/// Bytes in a block.
pub const BLOCK_LEN: usize = 1024;
/// Blocks in a group.
pub const GROUP_BLOCKS: usize = 32;

/// The number of blocks of an image.
#[must_use]
pub const fn block_count(image_len: u64) -> u64 {
    image_len.div_ceil(BLOCK_LEN as u64)
}

/// The number of groups of an image.
#[must_use]
pub const fn group_count(image_len: u64) -> u64 {
    block_count(image_len).div_ceil(GROUP_BLOCKS as u64)
}

/// A block's hash.
#[must_use]
pub fn leaf(block: &[u8]) -> Hash {
    crypto::sha256(&[&[0], block])
}

/// A group's hash, from its blocks' hashes.
///
/// # Errors
/// [`Error::Length`] unless there are 1 to 32 hashes.
pub fn group(index: u32, leaves: &[Hash]) -> Result<Hash, Error> {
    if leaves.is_empty() || leaves.len() > GROUP_BLOCKS {
        return Err(Error::Length);
    }
    let n = u8::try_from(leaves.len()).map_err(|_| Error::Length)?;
    Ok(crypto::sha256(&[&[1], &index.to_be_bytes(), &[n], leaves.as_flattened()]))
}

/// The root, from the groups' hashes one after the other.
#[derive(Clone)]
pub struct RootHasher {
    hash: Sha256,
    left: u32,
}

impl core::fmt::Debug for RootHasher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RootHasher").field("left", &self.left).finish_non_exhaustive()
    }
}

impl RootHasher {
    /// Begins the root of an image of `image_len` bytes.
    ///
    /// # Errors
    /// [`Error::Length`] for an image of more than 2³² groups.
    pub fn new(image_len: u64) -> Result<Self, Error> {
        let groups = u32::try_from(group_count(image_len)).map_err(|_| Error::Length)?;
        let mut hash = Sha256::new();
        hash.update([2]);
        hash.update(image_len.to_be_bytes());
        hash.update((BLOCK_LEN as u32).to_be_bytes());
        hash.update(groups.to_be_bytes());
        Ok(Self { hash, left: groups })
    }

    /// Adds the next group.
    ///
    /// # Errors
    /// [`Error::Length`] after the last one.
    pub fn push(&mut self, group: &Hash) -> Result<(), Error> {
        self.left = self.left.checked_sub(1).ok_or(Error::Length)?;
        self.hash.update(group);
        Ok(())
    }

    /// The root.
    ///
    /// # Errors
    /// [`Error::Length`] before the last group was added.
    pub fn finish(self) -> Result<Hash, Error> {
        if self.left == 0 { Ok(self.hash.finalize().into()) } else { Err(Error::Length) }
    }
}

/// The root of a whole image in memory.
///
/// # Errors
/// [`Error::Length`] for an image of more than 2³² groups.
pub fn root_of(image: &[u8]) -> Result<Hash, Error> {
    let mut root = RootHasher::new(image.len() as u64)?;
    for (index, blocks) in (0u32..).zip(image.chunks(BLOCK_LEN * GROUP_BLOCKS)) {
        let mut leaves = [[0u8; 32]; GROUP_BLOCKS];
        let mut n = 0;
        for (to, block) in leaves.iter_mut().zip(blocks.chunks(BLOCK_LEN)) {
            *to = leaf(block);
            n += 1;
        }
        root.push(&group(index, leaves.get(..n).ok_or(Error::Length)?)?)?;
    }
    root.finish()
}

/// Checks the list of groups against the signed root.
///
/// # Errors
/// [`Error::Merkle`] if it does not hash to the root.
pub fn verify_groups(root: &Hash, image_len: u64, groups: &[Hash]) -> Result<(), Error> {
    let check = || -> Result<Hash, Error> {
        let mut hasher = RootHasher::new(image_len)?;
        groups.iter().try_for_each(|g| hasher.push(g))?;
        hasher.finish()
    };
    match check() {
        Ok(computed) if crypto::tags_equal(&computed, root) => Ok(()),
        _ => Err(Error::Merkle),
    }
}

/// Checks a group's block hashes against the verified list of groups.
///
/// # Errors
/// [`Error::Merkle`] if they do not hash to the group.
pub fn verify_group(expected: &Hash, index: u32, leaves: &[Hash]) -> Result<(), Error> {
    match group(index, leaves) {
        Ok(computed) if crypto::tags_equal(&computed, expected) => Ok(()),
        _ => Err(Error::Merkle),
    }
}

/// Checks a block on arrival against its group's verified hashes.
///
/// # Errors
/// [`Error::Merkle`] if it is another block or longer than a block.
pub fn verify_block(expected: &Hash, block: &[u8]) -> Result<(), Error> {
    if block.len() <= BLOCK_LEN && crypto::tags_equal(&leaf(block), expected) {
        Ok(())
    } else {
        Err(Error::Merkle)
    }
}

/// Checks a whole image in memory against the signed root.
///
/// # Errors
/// [`Error::Merkle`].
pub fn verify_image(root: &Hash, image: &[u8]) -> Result<(), Error> {
    match root_of(image) {
        Ok(computed) if crypto::tags_equal(&computed, root) => Ok(()),
        _ => Err(Error::Merkle),
    }
}
