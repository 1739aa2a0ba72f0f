//! The readers of files that come from elsewhere, apart from the program: of signatures, and of
//! exported heads.

pub mod file_signature;
pub mod heads_file;
