//! isthmus-control
