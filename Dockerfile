# SimScaleAI on the CPU, with images, videos and figures.
#
#   docker build -t simscaleai .
#   docker run --rm -v "$PWD/runs:/work/runs" simscaleai demo
#   docker run --rm -it -v "$PWD:/work" -u "$(id -u):$(id -g)" simscaleai train --dataset data/reach.h5
#
# `.ci/docker` builds it, or runs its steps without Docker.
FROM python:3.13-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 WARP_CACHE_PATH=/opt/kernels
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY configs configs
COPY simscaleai simscaleai
# of two builds of a version, pip takes the one with a suffix: +cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --extra-index-url "$TORCH_INDEX" -c constraints.txt ".[viz,serve]"
# compile the renderer once; any user may run the image and add to the cache
RUN python -c "from simscaleai.sim import make_env; make_env('reach', 'rgb_array', render_engine='warp').reset(seed=0)"
RUN chmod -R a+rwX /opt/kernels && rm -rf /src && mkdir -m 777 /work

WORKDIR /work
ENTRYPOINT ["simscaleai"]
CMD ["--help"]
