//! The names of a type's fields, or of an enum's variants, as serde reads them: a reader that asks and takes nothing.

use std::cell::Cell;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor, value::Error},
    forward_to_deserialize_any,
};

/// The names; panics for what has none.
pub fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let names = Cell::new(None);
    let _ = T::deserialize(Asking(&names));
    names.get().unwrap_or_else(|| panic!("{} has no fields", std::any::type_name::<T>()))
}

struct Asking<'a>(&'a Cell<Option<&'static [&'static str]>>);

impl Asking<'_> {
    fn learns<T>(&self, names: &'static [&'static str]) -> Result<T, Error> {
        self.0.set(Some(names));
        Err(Error::custom("only asking"))
    }
}

impl<'de> Deserializer<'de> for Asking<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        self.learns(fields)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        self.learns(variants)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("neither a structure nor a choice"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}
