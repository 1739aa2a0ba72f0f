//! HTTP as every service speaks it: strict JSON bodies, problem+json, bearer
//! tokens, the layer around each request, a stop that fails no request, and the
//! admin port.

pub mod admin;
pub mod bearer;
pub mod json_body;
pub mod path_id;
pub mod prefer;
pub mod problem;
pub mod request_layer;
pub mod server;
