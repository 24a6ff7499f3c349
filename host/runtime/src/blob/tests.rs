use midplane_core::redact::Secrets;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;

const SECRET: &str = "sk-live-0123456789abcdef";

fn space_of(bytes_max: u64) -> BlobSpace {
    let redactor = Redactor::new(Secrets::new([("KEY", SECRET)]).unwrap());
    BlobSpace::new(std::env::temp_dir(), Arc::new(BlobBudget::new(bytes_max)), redactor)
}

/// A source that gives what a test sends; an end of the channel is a broken source.
struct Channel(mpsc::UnboundedReceiver<Option<Vec<u8>>>);

#[async_trait]
impl Source for Channel {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.0.recv().await {
            Some(piece) => Ok(piece.map(Bytes::from)),
            None => Err(Error::unavailable("body-truncated", "the body broke off")),
        }
    }
}

fn arriving(space: &BlobSpace, size: Option<u64>) -> (mpsc::UnboundedSender<Option<Vec<u8>>>, Arc<dyn Blob>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, space.arriving(Channel(receiver), size))
}

async fn written(space: &BlobSpace, pieces: &[&[u8]]) -> Arc<dyn Blob> {
    let mut writer = space.open_writer().unwrap();
    for piece in pieces {
        writer.write(piece.to_vec()).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn all(blob: &dyn Blob, step: usize, masked: bool) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let offset = out.len() as u64;
        let bytes = if masked { blob.read_masked(offset, step).await } else { blob.read(offset, step).await }.unwrap();
        if bytes.is_empty() {
            return out;
        }
        assert!(bytes.len() <= step);
        out.extend(bytes);
    }
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn bytes_come_back_from_memory_and_from_a_file() {
    let space = space_of(u64::MAX);
    for size in [0, 1, 1000, 1024 * 1024, 1024 * 1024 + 1, 3_000_000] {
        let data = pattern(size);
        let pieces: Vec<&[u8]> = data.chunks(STEP_BYTES_MAX / 3).collect();
        let blob = written(&space, &pieces).await;
        assert_eq!(blob.size().await.unwrap(), size as u64);
        assert_eq!(space.budget.held(), size as u64);
        let in_memory = if size <= 1024 * 1024 { size as u64 } else { 0 };
        assert_eq!(space.budget.in_memory.load(Ordering::Relaxed), in_memory);
        assert!(all(&*blob, 700_001, false).await == data, "{size}");
        assert!(blob.read(size as u64 + 5, 10).await.unwrap().is_empty());
        assert!(blob.read(u64::MAX, 10).await.unwrap().is_empty());
        drop(blob);
        assert_eq!(space.budget.held(), 0);
        assert_eq!(space.budget.in_memory.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn memory_of_all_blobs_together_is_bounded() {
    let space = space_of(u64::MAX);
    let mut blobs = Vec::new();
    for _ in 0..40 {
        blobs.push(written(&space, &[&pattern(1024 * 1024)]).await);
    }
    assert_eq!(space.budget.held(), 40 * 1024 * 1024);
    assert_eq!(space.budget.in_memory.load(Ordering::Relaxed), MEMORY_TOTAL_BYTES_MAX);
    assert!(all(&*blobs[39], STEP_BYTES_MAX, false).await == pattern(1024 * 1024));
}

#[tokio::test]
async fn digests() {
    let space = space_of(u64::MAX);
    let blob = written(&space, &[b"1234", b"56789"]).await;
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (name, want) in [
        ("sha256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ("md5", "25f9e794323b453885f5181f1b624d0b"),
        ("crc32c", "e3069283"),
    ] {
        assert_eq!(hex(blob.digest(name).await.unwrap()), want, "{name}");
    }
    let part = blob.slice(0, Some(0)).await.unwrap();
    assert_eq!(hex(part.digest("md5").await.unwrap()), "d41d8cd98f00b204e9800998ecf8427e");
    let error = blob.digest("sha1").await.unwrap_err();
    assert_eq!((error.kind.as_str(), error.message.as_str()), ("unsupported", "there is no digest `sha1`"));
    // Above the step of a digest, from a file.
    let data = pattern(2_500_000);
    let large = written(&space, &data.chunks(STEP_BYTES_MAX).collect::<Vec<_>>()).await;
    assert_eq!(large.digest("sha256").await.unwrap(), Sha256::digest(&data).to_vec());
}

#[tokio::test]
async fn slices() {
    let space = space_of(u64::MAX);
    let blob = written(&space, &[b"0123456789"]).await;
    for (from, length, want) in [
        (0, None, Some("0123456789")),
        (3, None, Some("3456789")),
        (3, Some(4), Some("3456")),
        (10, None, Some("")),
        (10, Some(0), Some("")),
        (11, None, None),
        (3, Some(8), None),
        (u64::MAX, Some(1), None),
        (1, Some(u64::MAX), None),
    ] {
        let part = blob.slice(from, length).await;
        match want {
            Some(want) => assert_eq!(all(&*part.unwrap(), 3, false).await, want.as_bytes(), "{from} {length:?}"),
            None => assert_eq!(part.err().unwrap().code, "range", "{from} {length:?}"),
        }
    }
    let part = blob.slice(2, Some(5)).await.unwrap();
    assert_eq!(all(&*part.slice(1, None).await.unwrap(), 9, false).await, b"3456");
    assert_eq!(part.slice(1, Some(5)).await.err().unwrap().code, "range");
    assert_eq!(part.size().await.unwrap(), 5);
    let tail = blob.slice(4, None).await.unwrap();
    drop(blob);
    assert_eq!(tail.size().await.unwrap(), 6, "a part keeps the blob");
}

#[tokio::test]
async fn who_reads_what_is_not_there_waits() {
    let space = space_of(u64::MAX);
    let (sender, blob) = arriving(&space, None);
    let reader = {
        let blob = Arc::clone(&blob);
        tokio::spawn(async move { blob.read(3, 10).await })
    };
    let size = {
        let blob = Arc::clone(&blob);
        tokio::spawn(async move { blob.size().await })
    };
    sender.send(Some(b"abc".to_vec())).unwrap();
    assert_eq!(blob.read(0, 10).await.unwrap(), b"abc");
    assert!(!reader.is_finished() && !size.is_finished());
    sender.send(Some(b"def".to_vec())).unwrap();
    assert_eq!(reader.await.unwrap().unwrap(), b"def");
    assert!(!size.is_finished());
    // The part is there before the end is known.
    assert_eq!(all(&*blob.slice(1, Some(4)).await.unwrap(), 10, false).await, b"bcde");
    sender.send(None).unwrap();
    assert_eq!(size.await.unwrap().unwrap(), 6);
    assert!(blob.read(6, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_size_that_is_known_is_said_at_once() {
    let space = space_of(u64::MAX);
    let (_sender, blob) = arriving(&space, Some(100));
    assert_eq!(blob.size().await.unwrap(), 100);
    assert_eq!(blob.slice(20, None).await.unwrap().size().await.unwrap(), 80);
    assert_eq!(blob.slice(20, Some(81)).await.err().unwrap().code, "range");
}

#[tokio::test]
async fn what_came_before_a_break_can_be_read() {
    let space = space_of(u64::MAX);
    let (sender, blob) = arriving(&space, Some(10));
    sender.send(Some(b"abc".to_vec())).unwrap();
    drop(sender);
    assert_eq!(blob.read(0, 10).await.unwrap(), b"abc");
    assert_eq!(blob.read(3, 10).await.unwrap_err().code, "body-truncated");
    assert_eq!(blob.digest("md5").await.unwrap_err().code, "body-truncated");
    let (sender, blob) = arriving(&space, None);
    drop(sender);
    assert_eq!(blob.size().await.unwrap_err().code, "body-truncated");
    assert_eq!(blob.slice(0, Some(1)).await.err().unwrap().code, "body-truncated");
}

#[tokio::test]
async fn the_budget_is_one_for_all_blobs() {
    let space = space_of(10);
    let first = written(&space, &[b"1234567"]).await;
    let mut writer = space.open_writer().unwrap();
    writer.write(b"890".to_vec()).await.unwrap();
    let error = writer.write(b"1".to_vec()).await.unwrap_err();
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("limit", "blob-bytes"));
    drop(first);
    writer.write(b"1234567".to_vec()).await.unwrap();
    drop(writer);
    assert_eq!(space.budget.held(), 0, "a writer that is dropped gives back");
    let (sender, blob) = arriving(&space, None);
    sender.send(Some(vec![0; 11])).unwrap();
    assert_eq!(blob.size().await.unwrap_err().code, "blob-bytes");
    let oversized = space.open_writer().unwrap().write(vec![0; STEP_BYTES_MAX + 1]).await.unwrap_err();
    assert_eq!(oversized.kind.as_str(), "limit");
}

#[tokio::test]
async fn dropping_the_last_handle_stops_the_source() {
    let space = space_of(u64::MAX);
    let (sender, blob) = arriving(&space, None);
    let part = blob.slice(0, None).await.unwrap();
    drop(blob);
    assert!(!sender.is_closed());
    drop(part);
    sender.closed().await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_said() {
    let budget = Arc::new(BlobBudget::new(u64::MAX));
    let dir = tempfile::tempdir().unwrap();
    let space = BlobSpace::new(dir.path().join("gone"), Arc::clone(&budget), Redactor::default());
    let mut writer = space.open_writer().unwrap();
    writer.write(vec![0; STEP_BYTES_MAX]).await.unwrap();
    assert_eq!(writer.write(vec![0]).await.unwrap_err().code, "spool");
}

#[tokio::test]
async fn spooled_files_have_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let space = BlobSpace::new(dir.path(), Arc::new(BlobBudget::new(u64::MAX)), Redactor::default());
    let blob = written(&space, &[&pattern(STEP_BYTES_MAX), b"more"]).await;
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(blob.read(STEP_BYTES_MAX as u64, 9).await.unwrap(), b"more");
}

#[tokio::test]
async fn a_slice_through_a_secret_uncovers_nothing() {
    let space = space_of(u64::MAX);
    let text = format!("before {SECRET} after");
    let blob = written(&space, &[text.as_bytes()]).await;
    let left = blob.slice(0, Some(20)).await.unwrap();
    let right = blob.slice(20, None).await.unwrap();
    let shown = [all(&*left, 100, true).await, all(&*right, 100, true).await].concat();
    assert_eq!(String::from_utf8(shown).unwrap(), format!("before {} after", "*".repeat(SECRET.len())));
    assert_eq!(all(&*blob, 100, false).await, text.as_bytes());
}

#[tokio::test]
async fn a_secret_that_is_still_arriving_is_not_given_out() {
    let space = space_of(u64::MAX);
    let (sender, blob) = arriving(&space, None);
    let reader = {
        let blob = Arc::clone(&blob);
        tokio::spawn(async move { all(&*blob, 5, true).await })
    };
    for piece in SECRET.as_bytes().chunks(3) {
        sender.send(Some(piece.to_vec())).unwrap();
        tokio::task::yield_now().await;
    }
    sender.send(Some(b" end".to_vec())).unwrap();
    sender.send(None).unwrap();
    assert_eq!(reader.await.unwrap(), format!("{} end", "*".repeat(SECRET.len())).as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// However a blob is read, what a guest sees of it is the mask of the whole.
    #[test]
    fn masking_does_not_depend_on_the_steps(
        parts in prop::collection::vec((0..40usize, any::<bool>()), 0..6),
        step in 1..90usize,
        cut in 0..200u64,
    ) {
        let mut text = Vec::new();
        for (plain, secret) in parts {
            text.extend(pattern(plain));
            if secret {
                text.extend_from_slice(SECRET.as_bytes());
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let space = space_of(u64::MAX);
            let blob = written(&space, &[&text]).await;
            let want = space.redactor.mask(&text).into_owned();
            prop_assert_eq!(want.len(), text.len());
            prop_assert!(all(&*blob, step, true).await == want);
            let cut = cut.min(text.len() as u64);
            let parts = [blob.slice(0, Some(cut)).await.unwrap(), blob.slice(cut, None).await.unwrap()];
            let joined = [all(&*parts[0], step, true).await, all(&*parts[1], step, true).await].concat();
            prop_assert!(joined == want);
            Ok(())
        })?;
    }
}
