//! The readers of what comes from elsewhere, apart from the program: of signatures, of exported
//! heads, and of dead letters, with the text that the program prints about them.

pub mod dead_letter;
pub mod file_signature;
pub mod heads_file;
pub mod terminal;
