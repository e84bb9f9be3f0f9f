"""From a patient's true Hounsfield units to the 8-bit image that a hospital stores."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from datamodules.phantoms.geometry import FIELD_OF_VIEW, FloatArray

SUBLEVELS = 3
"""Thin images averaged into one slice; the middle one lies at the slice's own level."""


@dataclass(frozen=True)
class Scanner:
    """A hospital's scanner, its protocol and its export.

    Attributes:
        thickness: slice thickness in mm.
        blur: standard deviation of the reconstruction kernel in mm.
        overshoot: edge enhancement of a sharp kernel, 0 for a soft one.
        noise: standard deviation of the dose noise in the middle of the body, in Hounsfield units.
        offset: error of the calibration in Hounsfield units.
        gain: error of the calibration's slope.
        level: centre of the window that is stored, in Hounsfield units.
        width: width of that window.
    """

    thickness: float = 3.0
    blur: float = 1.2
    overshoot: float = 0.0
    noise: float = 22.0
    offset: float = 0.0
    gain: float = 1.0
    level: float = -600.0
    width: float = 1500.0


def sublevels(levels: FloatArray, thickness: float) -> FloatArray:
    """Place the thin images behind each slice: levels of shape (levels * SUBLEVELS,)."""
    steps = (np.arange(SUBLEVELS) - SUBLEVELS // 2) * (thickness / SUBLEVELS)
    return (levels[:, None] + steps).astype(np.float32).ravel()


def scan(thin: FloatArray, scanner: Scanner, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Scan a patient: 8-bit images of shape (slices, size, size); arguments as for `measure`."""
    return export(measure(thin, scanner, rng), scanner)


def measure(thin: FloatArray, scanner: Scanner, rng: np.random.Generator) -> FloatArray:
    """Return Hounsfield units (slices, size, size) as the scanner reports them.

    `thin` has the true ones at `sublevels`, of shape (slices * SUBLEVELS, size, size).
    """
    slabs = thin.reshape(-1, SUBLEVELS, *thin.shape[1:]).mean(axis=1)
    hu = reconstruct(slabs, scanner) + dose_noise(slabs.shape, scanner, rng)
    return scanner.gain * hu + scanner.offset


def reconstruct(hu: FloatArray, scanner: Scanner) -> FloatArray:
    """Apply the reconstruction kernel: blur, and for a sharp kernel overshoot at edges."""
    pixel = FIELD_OF_VIEW / hu.shape[-1]
    image: FloatArray = ndimage.gaussian_filter(hu, (0, scanner.blur / pixel, scanner.blur / pixel))
    if scanner.overshoot > 0:
        # Never narrower than a pixel: the overshoot is visible at any image size.
        wide = max(1.8, pixel) / pixel
        image = image + scanner.overshoot * (
            image - ndimage.gaussian_filter(image, (0, wide, wide))
        )
    return image


def dose_noise(shape: tuple[int, ...], scanner: Scanner, rng: np.random.Generator) -> FloatArray:
    """Draw noise in Hounsfield units, correlated by the kernel and strongest in the middle."""
    size = shape[-1]
    pixel = FIELD_OF_VIEW / size
    white = rng.standard_normal(shape, dtype=np.float32)
    grain = max(scanner.blur * 0.8, 0.35 * pixel) / pixel
    noise = ndimage.gaussian_filter(white, (0, grain, grain), mode="wrap")
    if scanner.overshoot > 0:
        noise -= 0.6 * ndimage.gaussian_filter(noise, (0, 2 * grain, 2 * grain), mode="wrap")
    axis = np.linspace(-1, 1, size, dtype=np.float32) / 0.75
    attenuation = 0.35 + 0.65 * np.exp(-(axis[None, :] ** 2) - axis[:, None] ** 2)
    scaled: FloatArray = noise * (scanner.noise / noise.std()) * attenuation
    return scaled.astype(np.float32)


def export(hu: FloatArray, scanner: Scanner) -> npt.NDArray[np.uint8]:
    """Cut out the window and store it in 8 bits."""
    grey = (hu - scanner.level) / scanner.width + 0.5
    return np.asarray(np.round(np.clip(grey, 0, 1) * 255), dtype=np.uint8)
