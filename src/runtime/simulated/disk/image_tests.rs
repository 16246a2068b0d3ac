//! The image against a dumb twin that knows, for each sector, every content a power cut may leave.

use super::image::{Image, SECTOR};
use crate::base::rng::Rng;

const SECTORS: usize = 24;
const LEN: u64 = SECTORS as u64 * SECTOR;

/// For each sector the values it may have after a cut; the last is the one that is read now.
struct Twin {
    sectors: Vec<Vec<u8>>,
    /// For each sector how many of the newer values a sync that began at the fence covers.
    fence: Vec<usize>,
}

impl Twin {
    fn each(&mut self, at: usize, count: usize) -> impl Iterator<Item = (usize, &mut Vec<u8>)> {
        self.sectors.iter_mut().enumerate().skip(at).take(count)
    }

    fn sync(&mut self) {
        for (values, fence) in self.sectors.iter_mut().zip(&mut self.fence) {
            // The newest value under the fence is the oldest that may be there now.
            values.drain(..*fence);
            *fence = 0;
        }
    }
}

/// One life of a file under random operations, checked after each, and the cut at its end.
fn live(seed: u64) -> bool {
    let mut rng = Rng::new(seed);
    let mut image = Image::default();
    image.allocate(LEN);
    image.sync(0);
    let mut twin = Twin {
        sectors: vec![vec![0]; SECTORS],
        fence: vec![0; SECTORS],
    };
    let mut fence = 0;
    for value in 1..=rng.range(1..40) as u8 {
        let at = rng.below(SECTORS as u64) as usize;
        let count = rng.range(1..(SECTORS - at) as u64 + 1) as usize;
        let bytes = vec![value; count * SECTOR as usize];
        match rng.below(5) {
            0 | 1 => {
                image.write_cached(at as u64 * SECTOR, bytes);
                twin.each(at, count)
                    .for_each(|(_, values)| values.push(value));
            }
            2 => {
                image.write_durable(at as u64 * SECTOR, &bytes);
                twin.each(at, count)
                    .for_each(|(_, values)| *values = vec![value]);
                twin.fence[at..at + count].fill(0);
            }
            3 => {
                fence = image.fence();
                let newest = twin.sectors.iter().map(|values| values.len() - 1);
                twin.fence = newest.collect();
            }
            _ => {
                image.sync(fence);
                twin.sync();
            }
        }
        assert_eq!(
            read(&image),
            twin.sectors
                .iter()
                .map(|values| values[values.len() - 1])
                .collect::<Vec<_>>()
        );
    }
    let before = read(&image);
    image.cut_power(&mut rng);
    let after = read(&image);
    for (value, allowed) in after.iter().zip(&twin.sectors) {
        assert!(
            allowed.contains(value),
            "seed {seed}: {value} is none of {allowed:?}"
        );
    }
    before != after
}

/// The first byte of each sector, when the sector is whole.
fn read(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0; LEN as usize];
    image.read(0, &mut bytes);
    let sectors = bytes.chunks(SECTOR as usize);
    sectors
        .map(|sector| {
            assert!(
                sector.iter().all(|byte| *byte == sector[0]),
                "a sector is whole"
            );
            sector[0]
        })
        .collect()
}

#[test]
fn a_cut_leaves_what_the_twin_allows() {
    let changed = (0..2_000).filter(|seed| live(*seed)).count();
    assert!(
        (500..1_999).contains(&changed),
        "{changed} of 2000 cuts changed something"
    );
}
