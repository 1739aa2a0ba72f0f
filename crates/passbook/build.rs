//! Builds the tool anew when a migration, which it embeds, was added.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
