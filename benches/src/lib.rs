//! isthmus-benches
