"""What became of a weight sync."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.sync_phases import LeftOut
from shaping.training import WeightManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """What became of one sync.

    Args:
        manifest: what engines verified and committed last; None when none did.
        live: engines that serve the version, in the order given. Empty: start engines again, then sync again.
        left_out: engines that do not, in the order in which they failed.
        aborts: why an attempt was aborted, one line each; the next one may have worked.
        num_mismatches: times that an engine found another checksum than the learner's.
        num_bytes: of weights that engines took: bytes of the layout, times engines.
        canary_difference_nats: largest |learner - engine| log-prob on the canary; None without one.
    """

    manifest: WeightManifest | None
    live: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    phase_seconds: Mapping[str, float]
    aborts: tuple[str, ...]
    num_mismatches: int
    num_bytes: int
    canary_difference_nats: float | None

    def metrics(self) -> dict[str, float]:
        """By their names in the catalogue."""
        numbers = {f"weight_sync_{phase}_s": seconds for phase, seconds in self.phase_seconds.items()}
        numbers["weight_sync_bytes"] = float(self.num_bytes)
        numbers["weight_sync_aborts_count"] = float(len(self.aborts))
        numbers["weight_sync_left_out_count"] = float(len(self.left_out))
        numbers["weight_sync_checksum_mismatch_count"] = float(self.num_mismatches)
        if self.canary_difference_nats is not None:
            numbers["weight_sync_canary_difference_nats"] = self.canary_difference_nats
        return numbers
