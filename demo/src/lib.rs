//! isthmus-demo
