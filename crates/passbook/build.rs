//! Rebuilds the tool when a migration is added: the tool embeds them.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
