"""Speech to try a detector of speech with: spoken by eSpeak NG where it is installed, by plain formants where not.

Neither is a recording, so that nothing has to be downloaded and no person is heard.  A voice is a speaker in one
language; speakers are never divided between training and measurement.
"""

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

RATE = 16000
# Sentences in the languages of eSpeak NG's voices, with every vowel and most consonants of each.
SENTENCES = {
    "en-us": (
        "The quick brown fox jumps over the lazy dog.", "Please turn the light off in the kitchen.",
        "What time does the next train leave?", "One, two, three, four, five, six, seven, eight, nine, ten.",
        "I would rather have a cup of tea.", "She measured the voltage again and wrote it down.",
        "Stop!", "Could you repeat that, please?", "The weather will change tomorrow afternoon.",
    ),
    "en-gb-x-rp": (
        "A large fig tree stands beside the bridge.", "Open the window, it is hot in here.", "Yes.", "No, thank you.",
        "They will join us on Thursday at half past four.", "Eleven, twelve, thirteen, fourteen, fifteen.",
        "The judge gave a short answer.", "My father usually goes there by bus.",
    ),
    "de": (
        "Guten Morgen, wie geht es Ihnen?", "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich.", "Ja.",
        "Eins, zwei, drei, vier, fünf, sechs, sieben, acht, neun, zehn.", "Können Sie bitte das Fenster schließen?",
        "Der Zug nach Köln fährt heute später.",
    ),
    "es": (
        "Buenos días, ¿cómo está usted?", "Uno, dos, tres, cuatro, cinco, seis, siete, ocho, nueve, diez.",
        "El perro corre por la calle mojada.", "Gracias.", "¿Dónde está la estación de trenes?",
    ),
    "fr": (
        "Bonjour, comment allez-vous ?", "Un, deux, trois, quatre, cinq, six, sept, huit, neuf, dix.", "Oui.",
        "Le chat dort sur la chaise rouge.", "Où se trouve la gare, s'il vous plaît ?",
    ),
    "it": (
        "Buongiorno, come sta?", "Uno, due, tre, quattro, cinque, sei, sette, otto, nove, dieci.",
        "La ragazza legge un libro sotto l'albero.", "Grazie mille.",
    ),
}  # fmt: skip
# Variants of eSpeak NG's voices: glottis and vocal tract of a speaker.
VARIANTS = (
    "m1",
    "f1",
    "m2",
    "f2",
    "m3",
    "f3",
    "m4",
    "f4",
    "m7",
    "f5",
    "adam",
    "Annie",
    "caleb",
    "belinda",
    "edward",
    "linda",
    "ian",
    "steph",
    "john",
    "anika",
    "klatt",
    "Alicia",
    "michel",
    "Andrea",
)
MAX_SECONDS = 20
# espeak-ng/speak_lib.h: samples by callback, within the call; parameters of the speed, the pitch and its range.
SYNCHRONOUS, UTF8, SPEED, PITCH, PITCH_RANGE = 2, 1, 1, 3, 4


class Voice(NamedTuple):
    """A speaker: its name, its language, and a function of the number of a sentence to samples (N,) at 16 kHz."""

    name: str
    language: str
    speak: Callable[[int], np.ndarray]


def resampled(samples: np.ndarray, rate: int, to: int = RATE) -> np.ndarray:
    """Change the sampling rate by the spectrum: bands above the lower of both half rates are left out."""
    if rate == to or not len(samples):
        return samples
    size = max(1, round(len(samples) * to / rate))
    spectrum = np.fft.rfft(samples)
    wanted = np.zeros(size // 2 + 1, dtype=complex)
    count = min(len(spectrum), len(wanted))
    wanted[:count] = spectrum[:count]
    return np.fft.irfft(wanted, size) * (size / len(samples))


class ESpeak:
    """The library eSpeak NG, of the system or of the package ``espeakng-loader``.

    Raises
    ------
    OSError
        It is not installed, or cannot be used.
    """

    def __init__(self):
        library, data = self._find()
        self._library = ctypes.CDLL(library)
        self._chunks: list[np.ndarray] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        # Kept, as the library calls it later.
        self._callback = kind(self._receive)
        self.rate = self._library.espeak_Initialize(SYNCHRONOUS, 0, data, 0)
        if self.rate <= 0:
            raise OSError("eSpeak NG finds no data")
        self._library.espeak_SetSynthCallback(self._callback)

    @staticmethod
    def _find() -> tuple[str, bytes | None]:
        """Name of the library, and the folder that holds its data; ``None`` for the system's own."""
        spec = importlib.util.find_spec("espeakng_loader")
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).parent
            return str(folder / "libespeak-ng.so"), str(folder).encode()
        found = ctypes.util.find_library("espeak-ng")
        if found is None:
            raise OSError("eSpeak NG is not installed")
        return found, None

    def _receive(self, samples, count: int, _) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).astype(np.float64))
        return 0

    def speak(self, text: str, voice: str, speed: int, pitch: int) -> np.ndarray:
        """Speak a sentence: samples (N,) at 16 kHz in ±1, without silence around it.

        Parameters
        ----------
        voice : str
            Language and variant, ``"en-us+f2"``.
        speed : int
            Words per minute.
        pitch : int
            From 0 to 99.
        """
        self._chunks = []
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            return np.zeros(0)
        for name, value in ((SPEED, speed), (PITCH, pitch), (PITCH_RANGE, 50)):
            self._library.espeak_SetParameter(name, value, 0)
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(encoded, len(encoded), 0, 0, 0, UTF8, None, None)
        self._library.espeak_Synchronize()
        if not self._chunks:
            return np.zeros(0)
        return trimmed(resampled(np.concatenate(self._chunks) / 32768, self.rate)[: MAX_SECONDS * RATE])


def trimmed(samples: np.ndarray, share: float = 0.01) -> np.ndarray:
    """Cut what is quieter than a share of the loudest sample from both ends."""
    loud = np.flatnonzero(np.abs(samples) > share * np.abs(samples).max(initial=0))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def espeak_voices(rng: np.random.Generator) -> list[Voice]:
    """List speakers of eSpeak NG: every variant in one or two languages, each with a pitch and a speed of its own.

    Raises
    ------
    OSError
        eSpeak NG is not installed.
    """
    library = ESpeak()
    languages = list(SENTENCES)
    voices = []
    for number, variant in enumerate(VARIANTS):
        for language in (languages[number % 2], languages[2 + number % (len(languages) - 2)]):
            speed, pitch = int(rng.integers(120, 200)), int(rng.integers(25, 75))

            def speak(sentence: int, language=language, variant=variant, speed=speed, pitch=pitch) -> np.ndarray:
                texts = SENTENCES[language]
                return library.speak(texts[sentence % len(texts)], f"{language}+{variant}", speed, pitch)

            voices.append(Voice(f"{variant}-{language}", language, speak))
    return voices


# Centres of the first three formants of some vowels in Hz (Peterson and Barney 1952, men), and how likely a consonant
# of noise comes between two of them.
VOWELS = (
    (730, 1090, 2440),
    (530, 1840, 2480),
    (270, 2290, 3010),
    (570, 840, 2410),
    (300, 870, 2240),
    (490, 1350, 1690),
)
BANDWIDTHS = (90.0, 110.0, 170.0)
FRICATIVE_SHARE = 0.4


def formant_voices(rng: np.random.Generator, count: int = 24) -> list[Voice]:
    """List speakers that consist of pulses through three resonances, and of noise for consonants: a last resort."""
    voices = []
    for number in range(count):
        pitch, tract = float(rng.uniform(85, 250)), float(rng.uniform(0.9, 1.25))
        seed = int(rng.integers(1 << 31))

        def speak(sentence: int, pitch=pitch, tract=tract, seed=seed) -> np.ndarray:
            return _babbled(np.random.default_rng([seed, sentence]), pitch, tract)

        voices.append(Voice(f"formants-{number}", "none", speak))
    return voices


def _babbled(rng: np.random.Generator, pitch: float, tract: float) -> np.ndarray:
    """Utter some syllables."""
    parts = []
    for _ in range(int(rng.integers(3, 12))):
        if rng.random() < FRICATIVE_SHARE:
            size = int(rng.uniform(0.05, 0.12) * RATE)
            spectrum = np.fft.rfft(rng.normal(size=size))
            spectrum *= np.fft.rfftfreq(size, 1 / RATE) > 2500
            parts.append(0.1 * np.fft.irfft(spectrum, size) * np.hanning(size))
        size = int(rng.uniform(0.1, 0.3) * RATE)
        glide = pitch * (1 + 0.15 * np.sin(np.linspace(0, rng.uniform(1, 6), size)) + 0.02 * rng.normal())
        phase = np.cumsum(glide) / RATE
        pulses = np.diff(np.floor(phase), prepend=0.0) + 0.003 * rng.normal(size=size)
        spectrum, frequencies = np.fft.rfft(pulses), np.fft.rfftfreq(size, 1 / RATE)
        response = np.zeros(len(frequencies), dtype=complex)
        for centre, width, gain in zip(VOWELS[rng.integers(len(VOWELS))], BANDWIDTHS, (1, 0.5, 0.25), strict=True):
            response += gain * width / (width + 1j * (frequencies - tract * centre))
        voiced = np.fft.irfft(spectrum * response, size)
        ramp = np.minimum(1, np.minimum(np.arange(size), np.arange(size)[::-1]) / (0.02 * RATE))
        parts.append(voiced * ramp / max(np.abs(voiced).max(), 1e-9))
    samples = np.concatenate(parts)
    return 0.5 * samples / np.abs(samples).max()
