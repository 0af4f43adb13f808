//! isthmus
fn main() {}
