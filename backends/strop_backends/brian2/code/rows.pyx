{# Deliver the spikes of this step by segments. The queue holds source neurons; those of neuron n are segments
   `_first[n]` to `_first[n + 1] - 1`: `_length` synapses from `_synapse` on, whose targets are `_target` and those
   behind it, or, where `_target` is -1, stand in the table of targets. The additions are those of `v_post += w`, in
   Brian2's order; the targets of a segment without table are all different, so that it may be added as vectors. #}
{# USES_VARIABLES { _queue, _segments, v_post, w, _synaptic_post } #}
{% extends 'common_group.pyx' %}

{% block template_support_code %}
cdef extern from *:
    """
    static void strop_deliver(const int *source, long sources, const int *first, const int *synapse, const int *target,
                              const int *length, const int *post, const double *w, double *v)
    {
        for (long s = 0; s < sources; s++)
            for (int k = first[source[s]]; k < first[source[s] + 1]; k++) {
                const double *__restrict weight = w + synapse[k];
                const long n = length[k];
                if (target[k] >= 0) {
                    double *__restrict to = v + target[k];
                    for (long i = 0; i < n; i++) to[i] += weight[i];
                } else {
                    const int *to = post + synapse[k];
                    for (long i = 0; i < n; i++) v[to[i]] += weight[i];
                }
            }
    }
    """
    void strop_deliver(int* source, long sources, int* first, int* synapse, int* target, int* length, int* post,
                       double* w, double* v) nogil
{% endblock %}

{% block maincode %}
    {% set _eventspace = get_array_name(eventspace_variable) %}
    cdef int32_t _fired = {{_eventspace}}[_num{{_eventspace}} - 1]
    if _fired > 0:
        _queue.push(_buf_{{_eventspace}}[:_fired])
    cdef _numpy.ndarray[int32_t, ndim=1, mode='c'] _sources = _queue.peek()
    cdef _numpy.ndarray[int32_t, ndim=1, mode='c'] _first = _segments[0]
    cdef _numpy.ndarray[int32_t, ndim=1, mode='c'] _synapse = _segments[1]
    cdef _numpy.ndarray[int32_t, ndim=1, mode='c'] _target = _segments[2]
    cdef _numpy.ndarray[int32_t, ndim=1, mode='c'] _length = _segments[3]
    strop_deliver(<int*> _sources.data, len(_sources), <int*> _first.data, <int*> _synapse.data, <int*> _target.data,
                  <int*> _length.data, <int*> {{_synaptic_post}}, {{w}}, {{v_post}})
    _queue.advance()
{% endblock %}
