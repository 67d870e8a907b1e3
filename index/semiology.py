"""Signs of seizures that can be seen or heard: HED-SCORE 2 names, and what the ILAE's glossaries call them.

Names from the HED library schema SCORE (Hermes et al., 2025); words after Blume et al. (2001) and Fisher et al. (2017).
"""

from __future__ import annotations

HED_VERSION = ("8.3.0", "sc:score_2.0.0")
"""Schemas that the names are from; in a HED string each stands behind `sc:`."""

SIGNS: dict[str, str] = {
    "Semiology-motor-behavioral-arrest": "behaviour arrest",
    "Semiology-dyscognitive": "impaired awareness",
    "Semiology-automatisms": "automatisms",
    "Semiology-oroalimentary": "oroalimentary automatisms",
    "Semiology-manual": "manual or pedal automatisms",
    "Semiology-gestural": "gestural automatisms",
    "Semiology-mimetic": "mimetic automatisms (facial expression)",
    "Semiology-gelastic": "gelastic (laughing)",
    "Semiology-dacrystic": "dacrystic (crying)",
    "Semiology-hypermotor": "hyperkinetic",
    "Semiology-hypokinetic": "hypokinetic",
    "Semiology-tonic": "tonic",
    "Semiology-dystonic": "dystonic",
    "Semiology-postural": "postural, as the fencing posture",
    "Semiology-versive": "version of eyes, head or trunk",
    "Semiology-clonic": "clonic",
    "Semiology-tonic-clonic": "tonic-clonic",
    "Semiology-jacksonian-march": "Jacksonian march",
    "Semiology-myoclonic-jerk": "myoclonic jerks",
    "Semiology-negative-myoclonus": "negative myoclonus",
    "Semiology-epileptic-spasm": "epileptic spasms",
    "Semiology-atonic": "atonic",
    "Semiology-astatic": "astatic (drop)",
    "Semiology-eye-blinking": "eye blinking",
    "Semiology-vocalization": "vocalization",
    "Semiology-verbalization": "verbalization",
    "Semiology-hypersalivation": "hypersalivation",
    "Semiology-respiratory-apnoeic": "apnoea",
    "Semiology-vasomotor": "flushing or pallor",
    "Postictal-nose-wiping": "nose wiping afterwards",
}
