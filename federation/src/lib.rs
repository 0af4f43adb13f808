//! isthmus-federation
