//! isthmus-scenarios
