"""The meaning of published codes and spellings: tables only.

`conform` converts text columns to numbers with them; `eras` lists the columns.

Sources: codes 1 to 6 and 99 are the TLC data dictionaries' (yellow and green, 2025-03); the text codes were read in the
published files of 2009 to 2014, which no dictionary describes, and each month uses one family of them.
"""

from __future__ import annotations

import re

NULL_TEXTS = ("", "NULL", "NAN", "NA", "NONE", r"\N")
"""Spellings of "no value", in any case: the publisher's empty field, and what SQL, pandas and R write."""

VENDORS = {"CMT": "1", "VTS": "2", "DDS": "3"}
"""Vendors by letters, 2009 to 2014. Since 2015 the publisher uses 1 for CMT (Creative Mobile Technologies) and 2 for VTS
(VeriFone). DDS (Digital Dispatch Systems) had stopped before and has no published number: 3 is our own."""

PAYMENTS = {
    # 2009: words, upper or mixed case.
    "CASH": "2",
    "CREDIT": "1",
    "NO CHARGE": "3",
    "DISPUTE": "4",
    # 2010-01 to 2010-07: the same words cut to three characters.
    "CAS": "2",
    "CRE": "1",
    "NO": "3",
    "NA": "5",
    # 2010-08 to 2014-12: three-letter codes; DIS is also how "Dispute" was cut.
    "CSH": "2",
    "CRD": "1",
    "NOC": "3",
    "DIS": "4",
    "UNK": "5",
}
"""Ways of payment in words, to the numbers used since 2015: 1 card, 2 cash, 3 no charge, 4 dispute, 5 unknown."""

FLAGS = {"Y": "Y", "N": "N", "1": "Y", "0": "N"}
"""Store-and-forward: 0 and 1 from 2009 to 2010-07, N and Y since. The flags of high-volume trips are Y and N."""

SHARED = {"Y": "1", "N": "0"}
"""The shared-ride flag of for-hire trips is 1 or empty; a mirror of 2021 has N."""

CODES = {
    "vendorid": VENDORS,
    "payment_type": PAYMENTS,
    "store_and_fwd_flag": FLAGS,
    "sr_flag": SHARED,
    "shared_request_flag": FLAGS,
    "shared_match_flag": FLAGS,
    "access_a_ride_flag": FLAGS,
    "wav_request_flag": FLAGS,
    "wav_match_flag": FLAGS,
}
"""Columns whose texts are codes, with their meanings. Numbers that are not in the table are unchanged, except in the
flags, whose values must all be in it. Texts are compared in upper case without surrounding blanks."""

LICENSES = frozenset({"hvfhs_license_num", "dispatching_base_num", "originating_base_num", "affiliated_base_number"})
LICENSE = re.compile(r"(B|HV)[0-9]+")
"""Columns of license numbers, and the form of one: published in lower case, too, and padded with blanks. It is kept in
upper case; other text of these columns (`UBER`, `B02811 - M.L. Trips`) as published, without surrounding blanks."""

KNOWN_CODES: dict[str, frozenset[int | str]] = {
    "vendorid": frozenset({1, 2, 3, 4, 5, 6, 7}),
    "ratecodeid": frozenset({0, 1, 2, 3, 4, 5, 6, 99}),
    "payment_type": frozenset({0, 1, 2, 3, 4, 5, 6}),
    "trip_type": frozenset({1, 2}),
    "pulocationid": frozenset(range(1, 266)),
    "dolocationid": frozenset(range(1, 266)),
    "request_source": frozenset({"A", "HV0003", "HV0005"}),
    "hvfhs_license_num": frozenset({"HV0002", "HV0003", "HV0004", "HV0005"}),
    "sr_flag": frozenset({0, 1}),
}
"""Codes that published months have; any other is loaded, and a check lists it.

Of the data dictionaries, but: vendors 4 (2018, 2019) and 5 (green, 2022), rate 0 (2010 to 2013) and request source A (2026)
are in published files only; 3 is our number for DDS."""
