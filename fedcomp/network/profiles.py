"""The kinds of clients that have a name, with the sources of their figures.

Rates are what was measured for users, not what a standard allows. Processors are orders of magnitude and no
measurement: 1 is a recent phone, and what it takes for one example is said by the configuration.

fibre
    The performance that a European very high capacity network has to show at peak time: 1000 Mbit/s down, 200 up,
    round trip 10 ms, packet loss 0.0025 % (BEREC Guidelines on Very High Capacity Networks, BoR (20) 165, 2020,
    threshold 1). A desktop or laptop: 4 times the reference.
lte
    29.5 Mbit/s down and 7.6 up, averages of UK users on 4G, October 2022 to March 2023 (Ofcom, Mobile Matters, 2023);
    round trip 53.1 ms (Ofcom, Measuring mobile broadband performance in the UK, 2015); packet loss 1e-6, what the
    default bearer is designed for (3GPP TS 23.203, table 6.1.7, QCI 9). The reference phone.
3g
    5.9 Mbit/s down and 2.0 up, and round trip 63.5 ms, from the same reports; packet loss 1e-3, the loosest target
    for interactive and background
    traffic (3GPP TS 23.107, SDU error ratio). An old phone: a quarter.
lora
    LoRaWAN in Europe at its fastest common data rate: DR5, 5470 bit/s, 222 bytes of payload a frame, 1 s to the
    receive window (LoRa Alliance, RP002 LoRaWAN Regional Parameters, EU863-870); 13 bytes of header (LoRaWAN L2 1.0.4,
    section 4). Sending is allowed for 1 % of the time (ETSI EN 300 220, band M): the rate here is the one hundredth
    that is left, both ways. One frame in ten lost is an assumption. A microcontroller: one hundredth.
"""

from __future__ import annotations

from fedcomp.network.profile import Profile

_LORA_BITS_PER_SECOND = 5470.0
_LORA_DUTY_CYCLE = 0.01

FIBRE = Profile(name="fibre", down=1000e6, up=200e6, rtt=0.010, loss=2.5e-5, speed=4.0)
LTE = Profile(name="lte", down=29.5e6, up=7.6e6, rtt=0.0531, loss=1e-6, speed=1.0)
THREE_G = Profile(name="3g", down=5.9e6, up=2.0e6, rtt=0.0635, loss=1e-3, speed=0.25)
LORA = Profile(
    name="lora",
    down=_LORA_BITS_PER_SECOND * _LORA_DUTY_CYCLE,
    up=_LORA_BITS_PER_SECOND * _LORA_DUTY_CYCLE,
    rtt=1.0,
    loss=0.1,
    packet_bytes=222,
    header_bytes=13,
    over_tcp=False,
    speed=0.01,
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in (FIBRE, LTE, THREE_G, LORA)}
"""All profiles by name."""
