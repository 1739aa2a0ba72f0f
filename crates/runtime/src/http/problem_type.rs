//! The types of problems. Each service has a table of its own types; the OpenAPI document and
//! the pages at `/v1/problems/{slug}` are made from all tables.

use std::ops::Deref;

use axum::http::StatusCode;

use super::problem::Problem;

/// A type of problem. Its `type` is `/problems/<slug>`. A pointer, so that a problem is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemType(pub(super) &'static Definition);

/// The definition of a type of problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    /// The HTTP status.
    pub status: StatusCode,
    /// The last part of the `type`.
    pub slug: &'static str,
    /// The same sentence in every response.
    pub title: &'static str,
    /// When it occurs, for its page. Markdown without blocks.
    pub meaning: &'static str,
    /// The client's next step, for its page. Markdown without blocks.
    pub remedy: &'static str,
}

impl Deref for ProblemType {
    type Target = Definition;

    fn deref(&self) -> &Definition {
        self.0
    }
}

impl ProblemType {
    /// The type with this definition.
    #[must_use]
    pub const fn new(definition: &'static Definition) -> Self {
        Self(definition)
    }

    /// A problem of this type. `detail` gives the cause or the remedy.
    #[must_use]
    pub fn because(self, detail: impl Into<String>) -> Problem {
        Problem::new(self, detail.into())
    }
}

/// Defines types of problems, each as a constant, and their table `TYPES`. The doc comment is the
/// meaning; the values are the status, the slug, the title and the remedy.
#[macro_export]
macro_rules! problem_types {
    ($(
        $(#[doc = $meaning:literal])+
        $vis:vis const $name:ident: ($status:ident, $slug:literal, $title:literal, $remedy:literal);
    )+) => {
        $(
            $(#[doc = $meaning])+
            $vis const $name: $crate::http::problem::ProblemType =
                $crate::http::problem::ProblemType::new(&$crate::http::problem::Definition {
                    status: ::axum::http::StatusCode::$status,
                    slug: $slug,
                    title: $title,
                    meaning: concat!($($meaning),+),
                    remedy: $remedy,
                });
        )+

        /// The types of problems of this module.
        pub const TYPES: &[$crate::http::problem::ProblemType] = &[$($name),+];
    };
}
