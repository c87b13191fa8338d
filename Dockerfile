# autoseg on a CPU:       docker build -t autoseg .
# autoseg on NVIDIA GPUs: docker build -t autoseg:cuda --build-arg TORCH=cuda .
FROM python:3.11-slim

ARG TORCH=cpu

WORKDIR /opt/autoseg
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY autoseg autoseg

# PyPI's torch for Linux is the build for CUDA.
RUN if [ "$TORCH" = cpu ]; then INDEX="--index-url https://download.pytorch.org/whl/cpu"; fi; \
    pip install --no-cache-dir -c constraints.txt $INDEX torch torchvision
RUN pip install --no-cache-dir -c constraints.txt '.[networks,encoders,dicom]'

# Any user may run it (--user): caches lie where everybody writes.
ENV AUTOSEG_ROOT=/data MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba
WORKDIR /data
ENTRYPOINT ["autoseg"]
CMD ["--help"]
