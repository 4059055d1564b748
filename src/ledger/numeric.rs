//! The binary form of Postgres' `numeric`, as `numeric_in` makes it: a short header and digits to the
//! base of 10,000. Whatever has another form (NaN, infinities, very many digits) is left to Postgres.

const BASE: u128 = 10_000;
/// Decimals of a base digit.
const DIGITS: u32 = 4;

const SHORT: u16 = 0x8000;
const KIND: u16 = 0xC000;
const NEGATIVE: u16 = 0x2000;
const NEGATIVE_WEIGHT: u16 = 0x0040;
const WEIGHT: u16 = 0x003F;
const SCALE_SHIFT: u32 = 7;

/// A number: `units` of 10^-`scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    pub units: i128,
    pub scale: u32,
}

impl Number {
    /// Without trailing zeros, but for the first `decimals` decimals.
    pub fn trimmed(self, decimals: u32) -> Number {
        let Number {
            mut units,
            mut scale,
        } = self;
        // Mostly it fits where division is quick.
        if let Ok(mut small) = i64::try_from(units) {
            while scale > decimals && small % 10 == 0 {
                small /= 10;
                scale -= 1;
            }
            units = small.into();
        }
        while scale > decimals && units % 10 == 0 {
            units /= 10;
            scale -= 1;
        }
        match decimals.saturating_sub(scale) {
            0 => Number { units, scale },
            more => Number {
                units: units.saturating_mul(10_i128.pow(more.min(28))),
                scale: scale + more,
            },
        }
    }

    /// The bytes of a numeric without the length before them. Numbers of up to 96 bits, with up to 28
    /// decimals.
    pub fn encode(self) -> Encoded {
        let mut encoded = Encoded {
            bytes: [0; 2 + 2 * Encoded::MOST],
            length: 2,
        };
        let mut header = SHORT | (self.scale as u16) << SCALE_SHIFT;
        let mut rest = self.units.unsigned_abs();
        // Digits after the point are filled up to a whole base digit.
        let fill = (DIGITS - self.scale % DIGITS) % DIGITS;
        rest = rest.saturating_mul(10_u128.pow(fill));
        let mut weight = -(i32::try_from((self.scale + fill) / DIGITS).unwrap_or(0)) - 1;
        let mut digits = [0_u16; Encoded::MOST];
        let mut count = 0;
        while rest > 0 && count < Encoded::MOST {
            let digit = (rest % BASE) as u16;
            rest /= BASE;
            weight += 1;
            // The lowest ones are left out while they are zero.
            if count > 0 || digit > 0 {
                digits[count] = digit;
                count += 1;
            }
        }
        if count > 0 {
            if self.units < 0 {
                header |= NEGATIVE;
            }
            if weight < 0 {
                header |= NEGATIVE_WEIGHT;
            }
            header |= weight as u16 & WEIGHT;
        }
        encoded.bytes[..2].copy_from_slice(&header.to_ne_bytes());
        for digit in digits.iter().take(count).rev() {
            let at = encoded.length;
            encoded.bytes[at..at + 2].copy_from_slice(&digit.to_ne_bytes());
            encoded.length += 2;
        }
        encoded
    }

    /// Reads such bytes; `None` where they have another form or too many digits.
    pub fn decode(bytes: &[u8]) -> Option<Number> {
        let (header, digits) = bytes.split_first_chunk::<2>()?;
        let header = u16::from_ne_bytes(*header);
        if header & KIND != SHORT {
            return None;
        }
        let scale = u32::from((header & !KIND & !NEGATIVE) >> SCALE_SHIFT);
        let low = i32::from(header & WEIGHT);
        let weight = match header & NEGATIVE_WEIGHT {
            0 => low,
            _ => low - i32::from(WEIGHT) - 1,
        };
        let mut units = 0_i128;
        let mut count = 0;
        for digit in digits.chunks_exact(2) {
            let digit = u16::from_ne_bytes([*digit.first()?, *digit.get(1)?]);
            units = units.checked_mul(BASE as i128)?.checked_add(digit.into())?;
            count += 1;
        }
        // Decimals that the units have now, and those that they shall have.
        let decimals = (count - weight - 1).checked_mul(DIGITS as i32)?;
        let more = i32::try_from(scale).ok()? - decimals;
        let power = 10_i128.checked_pow(more.unsigned_abs())?;
        units = match more {
            0.. => units.checked_mul(power)?,
            _ => units / power,
        };
        let negative = header & NEGATIVE != 0;
        Some(Number {
            units: if negative { -units } else { units },
            scale,
        })
    }
}

/// The bytes of a numeric.
pub struct Encoded {
    bytes: [u8; 2 + 2 * Encoded::MOST],
    length: usize,
}

impl Encoded {
    /// Base digits that an i128 has at most.
    const MOST: usize = 11;

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// What `numeric_in` makes, read off pages.
    #[test]
    fn is_as_postgres_has_it() {
        let cases: &[(i128, u32, &[u16])] = &[
            (0, 0, &[0x8000]),
            (0, 2, &[0x8100]),
            (1, 0, &[0x8000, 1]),
            (-1, 0, &[0xA000, 1]),
            (150, 2, &[0x8100, 1, 5000]),
            (5, 1, &[0x80FF, 5000]),
            (1, 10, &[0x857D, 100]),
            (10_000, 0, &[0x8001, 1]),
            (12_345_678, 4, &[0x8200, 1234, 5678]),
            (100_000_000, 0, &[0x8002, 1]),
        ];
        for (units, scale, words) in cases {
            let number = Number {
                units: *units,
                scale: *scale,
            };
            assert_eq!(number.encode().as_bytes(), bytes(words), "{number:?}");
            assert_eq!(Number::decode(&bytes(words)), Some(number));
        }
        // NaN, Infinity, and a long header.
        for other in [0xC000, 0xD000, 0xF000, 0x0000] {
            assert_eq!(Number::decode(&bytes(&[other, 0])), None);
        }
    }

    proptest! {
        #[test]
        fn comes_back(units in -(1_i128 << 96)..(1_i128 << 96), scale in 0_u32..=28) {
            let number = Number { units, scale };
            prop_assert_eq!(Number::decode(number.encode().as_bytes()), Some(number));
        }

        #[test]
        fn trims(units in -1_000_000_i128..1_000_000, scale in 0_u32..=10, decimals in 0_u32..=4) {
            let trimmed = Number { units, scale }.trimmed(decimals);
            prop_assert!(trimmed.scale >= decimals);
            prop_assert!(trimmed.scale == decimals || trimmed.units % 10 != 0);
            let (one, other) = (units * 10_i128.pow(20 - scale), trimmed.units * 10_i128.pow(20 - trimmed.scale));
            prop_assert_eq!(one, other);
        }
    }
}
