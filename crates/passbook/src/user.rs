//! The user of the operating system.

use nix::unistd::{Uid, User};

/// The name of the user running this process, or `user <uid>` for an id without a name.
pub(crate) fn current() -> String {
    let id = Uid::current();
    let user = User::from_uid(id).ok().flatten();
    user.map_or_else(|| format!("user {id}"), |user| user.name)
}
