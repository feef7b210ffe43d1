# SPDX-License-Identifier: BSD-2-Clause
"""usage: vmlinux.py BZIMAGE OUTPUT: the ELF in a bzImage (Documentation/arch/x86/boot.rst)."""
import struct
import subprocess
import sys

TOOLS = ((b"\x02\x21\x4c\x18", "lz4"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x1f\x8b", "gzip"),
         (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bzip2"))

with open(sys.argv[1], "rb") as f:
    image = f.read()
setup_sects = image[0x1F1] or 4
offset, length = struct.unpack_from("<II", image, 0x248)
begin = (setup_sects + 1) * 512 + offset
# The last four bytes are the size of the output, which is not the decompressor's.
payload = image[begin:begin + length - 4]
tool = next((t for magic, t in TOOLS if payload.startswith(magic)), None)
if image[0x202:0x206] != b"HdrS" or not tool:
    sys.exit(f"{sys.argv[1]}: not a bzImage with a known payload")
with open(sys.argv[2], "wb") as out:
    subprocess.run([tool, "-dc"], input=payload, stdout=out, check=True)
