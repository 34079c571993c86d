//! How good a call sounded: the report of a call, the marks of the E-model, and the shape of its losses.

pub mod bursts;
pub mod e_model;
mod report;

pub use report::MediaReport;
